"""Checkpoints as the hub has them, with few narrow layers and random weights.

The configuration files have the keys (and, by `old`, the omissions and leftovers) of the published ones, the weights
are sharded safetensors with an index, the tokenizers are of each language model's own kind, and processor files lie
beside them. What only the hub has is the number and width of layers.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Literal

import torch
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForSeq2SeqLM,
    Blip2Config,
    Blip2ForConditionalGeneration,
    InstructBlipConfig,
    InstructBlipForConditionalGeneration,
)

from tests.support.tokenizers import MISTRAL_CHAT, QWEN_CHAT, Kind, save_tokenizer

Published = Literal["blip2-flan-t5", "blip2-opt", "instructblip-flan-t5", "instructblip-vicuna"]
Language = Literal["mistral", "llama", "qwen2", "qwen3", "t5"]
PUBLISHED: tuple[Published, ...] = ("blip2-flan-t5", "blip2-opt", "instructblip-flan-t5", "instructblip-vicuna")
LANGUAGES: tuple[Language, ...] = ("mistral", "llama", "qwen2", "qwen3", "t5")

IMAGE_MEAN, IMAGE_STD = [0.48145466, 0.4578275, 0.40821073], [0.26862954, 0.26130258, 0.27577711]
# What configurations written by older versions of transformers repeat in every part.
LEFTOVERS = {
    "add_cross_attention": False,
    "bad_words_ids": None,
    "chunk_size_feed_forward": 0,
    "diversity_penalty": 0.0,
    "do_sample": False,
    "early_stopping": False,
    "finetuning_task": None,
    "id2label": {"0": "LABEL_0", "1": "LABEL_1"},
    "label2id": {"LABEL_0": 0, "LABEL_1": 1},
    "length_penalty": 1.0,
    "max_length": 20,
    "num_beams": 1,
    "output_attentions": False,
    "prefix": None,
    "pruned_heads": {},
    "repetition_penalty": 1.0,
    "return_dict": True,
    "temperature": 1.0,
    "tf_legacy_loss": False,
    "top_k": 50,
    "top_p": 1.0,
    "torchscript": False,
    "transformers_version": "4.28.0.dev0",
    "typical_p": 1.0,
    "use_bfloat16": False,
}


def save_published(
    folder: Path, kind: Published, *, old: bool = False, seed: int = 0, full_width: bool = False
) -> Path:
    """Write a backbone in the format of a published one; returns the folder.

    Args:
        folder: is created.
        kind: which.
        old: as first published in 2023: without image tokens, with leftovers of older versions.
        seed: of the weights.
        full_width: the published widths, with one or two layers of everything (a few hundred million parameters).
    """
    instruct = kind.startswith("instructblip")
    words: Kind = "t5" if "t5" in kind else "opt" if "opt" in kind else "llama"
    save_tokenizer(folder, words)
    if instruct:
        save_tokenizer(folder / "qformer_tokenizer", "bert")
        if words == "llama":
            _vicuna_tokenizer(folder)
    config = published_config(kind, old=old, sizes=not full_width)
    if full_width:
        _few_layers(config)
    (folder / "config.json").write_text(json.dumps(config, indent=2))
    parsed = (InstructBlipConfig if instruct else Blip2Config).from_pretrained(folder)
    torch.manual_seed(seed)
    model = (InstructBlipForConditionalGeneration if instruct else Blip2ForConditionalGeneration)(parsed)
    if words == "t5":  # FlanT5's output layer is not its embedding
        model.language_model.lm_head.weight = torch.nn.Parameter(model.language_model.lm_head.weight.detach().clone())
    _draw(model)
    model.save_pretrained(folder, max_shard_size="400MB" if full_width else "60KB")
    (folder / "config.json").write_text(json.dumps(config, indent=2))  # save_pretrained wrote its own version
    processor = {
        "do_normalize": True,
        "do_rescale": True,
        "do_resize": True,
        "image_mean": IMAGE_MEAN,
        "image_std": IMAGE_STD,
        "image_processor_type": "BlipImageProcessor",
        "processor_class": "InstructBlipProcessor" if instruct else "Blip2Processor",
        "resample": 3,
        "rescale_factor": 0.00392156862745098,
        "size": dict.fromkeys(("height", "width"), 224 if full_width else 16),
    }
    (folder / "preprocessor_config.json").write_text(json.dumps(processor, indent=2))
    if not old:
        name = processor["processor_class"]
        (folder / "processor_config.json").write_text(
            json.dumps({"num_query_tokens": config["num_query_tokens"], "processor_class": name})
        )
    return folder


def published_config(kind: Published, *, old: bool = False, sizes: bool = True) -> dict[str, Any]:
    """Return the configuration file of a published backbone.

    Args:
        kind: which.
        old: as first published.
        sizes: narrow all widths, as the tests need it; False leaves them at the published ones.
    """
    instruct = kind.startswith("instructblip")
    name = "instructblip" if instruct else "blip_2"
    text = _text_config(kind, sizes=sizes)
    narrow = sizes
    config: dict[str, Any] = {
        "architectures": ["InstructBlipForConditionalGeneration" if instruct else "Blip2ForConditionalGeneration"],
        "initializer_factor": 1.0,
        "initializer_range": 0.02,
        "model_type": "instructblip" if instruct else "blip-2",
        "num_query_tokens": 5 if narrow else 32,
        "qformer_config": {
            "classifier_dropout": None,
            "model_type": f"{name}_qformer",
            "torch_dtype": "float32",
            **({"encoder_hidden_size": 16, "hidden_size": 12, "num_hidden_layers": 3} if narrow else {}),
            **({"num_attention_heads": 2, "intermediate_size": 24, "vocab_size": 184} if narrow else {}),
            **({} if old or instruct else {"use_qformer_text_input": False}),
        },
        "text_config": text,
        "tie_word_embeddings": False,
        "torch_dtype": "float32" if old or instruct else "float16",
        "transformers_version": None if old else "4.47.0.dev0",
        "use_decoder_only_language_model": text["model_type"] != "t5",
        "vision_config": {
            "dropout": 0.0,
            "initializer_factor": 1.0,
            "model_type": f"{name}_vision_model",
            "num_channels": 3,
            "projection_dim": 512,
            **({"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2} if narrow else {}),
            **({"num_attention_heads": 2, "image_size": 16, "patch_size": 8} if narrow else {}),
        },
    }
    if old:
        for part in ("qformer_config", "text_config", "vision_config"):
            config[part] = {**LEFTOVERS, **config[part]}
    else:
        config |= {"image_token_index": text["vocab_size"] - 1}
        if not instruct:
            config |= {"image_text_hidden_size": 256}
    return config


def save_language(folder: Path, kind: Language, *, chat: bool = False, dtype: str = "float32", seed: int = 0) -> Path:
    """Write a language model as the hub has them; returns the folder.

    Args:
        folder: is created.
        kind: which.
        chat: its tokenizer has a chat template (Qwen's own are always there).
        dtype: that its configuration names.
        seed: of the weights.
    """
    qwen = kind.startswith("qwen")
    words: Kind = "t5" if kind == "t5" else "qwen" if qwen else "llama"
    template = QWEN_CHAT if qwen else MISTRAL_CHAT if chat else None
    save_tokenizer(folder, words, chat_template=template)
    config = _t5(narrow=True) if kind == "t5" else _decoder(kind)
    config["torch_dtype"] = dtype
    (folder / "config.json").write_text(json.dumps(config, indent=2))
    torch.manual_seed(seed)
    auto = AutoModelForSeq2SeqLM if kind == "t5" else AutoModelForCausalLM
    model = auto.from_config(AutoConfig.from_pretrained(folder), dtype=torch.float32)
    _draw(model)
    model.save_pretrained(folder, max_shard_size="40KB")
    (folder / "config.json").write_text(json.dumps(config, indent=2))
    # Settings such as these come with many chat models; an answer must not depend on them.
    generation = {"do_sample": True, "temperature": 0.7, "top_p": 0.8, "top_k": 20, "repetition_penalty": 1.1}
    ends = [2, 0] if qwen else config.get("eos_token_id", 1)
    (folder / "generation_config.json").write_text(
        json.dumps({**(generation if qwen else {}), "eos_token_id": ends, "pad_token_id": 0})
    )
    return folder


def _few_layers(config: dict[str, Any]) -> None:
    config["vision_config"]["num_hidden_layers"] = 1
    config["qformer_config"]["num_hidden_layers"] = 2
    for key in ("num_layers", "num_decoder_layers", "num_hidden_layers"):
        if key in config["text_config"]:
            config["text_config"][key] = 1


def _draw(model: torch.nn.Module) -> None:
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.dim() > 1:
                parameter.normal_(std=1.0 if "query_tokens" in name else 0.2)
    draw_norms_and_biases(model)


@torch.no_grad()
def draw_norms_and_biases(model: torch.nn.Module) -> None:
    """Draw what new layers have at one and at zero: a norm or bias that is not copied would else not be seen."""
    for name, parameter in model.named_parameters():
        if parameter.dim() == 1:
            parameter.normal_(mean=0.0 if name.endswith("bias") else 1.0, std=0.2)


def _text_config(kind: Published, *, sizes: bool) -> dict[str, Any]:
    if "t5" in kind:
        return _t5(narrow=sizes)
    if "opt" in kind:
        return {
            "_name_or_path": "facebook/opt-2.7b",
            "_remove_final_layer_norm": False,
            "activation_dropout": 0.0,
            "activation_function": "relu",
            "architectures": ["OPTForCausalLM"],
            "attention_dropout": 0.0,
            "bos_token_id": 2,
            "do_layer_norm_before": True,
            "dropout": 0.1,
            # A new line ends an answer, which the tokenizer does not call its end token.
            "eos_token_id": 202 if sizes else 50118,
            "ffn_dim": 32 if sizes else 10240,
            "hidden_size": 24 if sizes else 2560,
            "init_std": 0.02,
            "layerdrop": 0.0,
            "max_position_embeddings": 2048,
            "model_type": "opt",
            "num_attention_heads": 3 if sizes else 32,
            "num_hidden_layers": 2 if sizes else 32,
            "pad_token_id": 1,
            "prefix": "</s>",
            "torch_dtype": "float16",
            "use_cache": True,
            "vocab_size": 616 if sizes else 50304,
            "word_embed_proj_dim": 24 if sizes else 2560,
        }
    return {
        "_name_or_path": "vicuna-7b",
        "architectures": ["LlamaForCausalLM"],
        "bos_token_id": 1,
        "eos_token_id": 2,
        "hidden_act": "silu",
        "hidden_size": 24 if sizes else 4096,
        "initializer_range": 0.02,
        "intermediate_size": 32 if sizes else 11008,
        "max_position_embeddings": 2048,
        "max_sequence_length": 2048,
        "model_type": "llama",
        "num_attention_heads": 3 if sizes else 32,
        "num_hidden_layers": 2 if sizes else 32,
        "pad_token_id": 0,
        "rms_norm_eps": 1e-06,
        "tie_word_embeddings": False,
        "torch_dtype": "float16",
        "use_cache": True,
        "vocab_size": 712 if sizes else 32001,
    }


def _t5(*, narrow: bool) -> dict[str, Any]:
    return {
        "_name_or_path": "google/flan-t5-xl",
        "architectures": ["T5ForConditionalGeneration"],
        "bos_token_id": 1,
        "d_ff": 32 if narrow else 5120,
        "d_kv": 8 if narrow else 64,
        "d_model": 24 if narrow else 2048,
        "decoder_start_token_id": 0,
        "dense_act_fn": "gelu",
        "dropout_rate": 0.1,
        "eos_token_id": 1,
        "feed_forward_proj": "gated-gelu",
        "initializer_factor": 1.0,
        "is_encoder_decoder": True,
        "is_gated_act": True,
        "layer_norm_epsilon": 1e-06,
        "model_type": "t5",
        "n_positions": 512,
        "num_decoder_layers": 2 if narrow else 24,
        "num_heads": 3 if narrow else 32,
        "num_layers": 2 if narrow else 24,
        "output_past": True,
        "pad_token_id": 0,
        "relative_attention_max_distance": 128,
        "relative_attention_num_buckets": 32,
        "task_specific_params": {"summarization": {"length_penalty": 2.0, "max_length": 200, "prefix": "summarize: "}},
        "tie_word_embeddings": False,
        "torch_dtype": "float32",
        "use_cache": True,
        "vocab_size": 160 if narrow else 32128,
    }


def _decoder(kind: Language) -> dict[str, Any]:
    names = {"mistral": "Mistral", "llama": "Llama", "qwen2": "Qwen2", "qwen3": "Qwen3"}
    qwen = kind.startswith("qwen")
    config: dict[str, Any] = {
        "architectures": [f"{names[kind]}ForCausalLM"],
        "attention_dropout": 0.0,
        "bos_token_id": 0 if qwen else 1,
        "eos_token_id": 2,
        "hidden_act": "silu",
        "hidden_size": 32,
        "initializer_range": 0.02,
        "intermediate_size": 48,
        "max_position_embeddings": 2048,
        "model_type": kind,
        "num_attention_heads": 4,
        "num_hidden_layers": 2,
        "num_key_value_heads": 2,
        "rms_norm_eps": 1e-06,
        "rope_theta": 10000.0,
        "tie_word_embeddings": qwen,
        "use_cache": True,
        "vocab_size": 616 if qwen else 712,
    }
    if kind == "mistral":
        config |= {"sliding_window": 64}
    if qwen:
        config |= {"sliding_window": None, "use_sliding_window": False, "max_window_layers": 2}
    if kind == "qwen3":
        config |= {"head_dim": 8, "attention_bias": False}
    return config


def _vicuna_tokenizer(folder: Path) -> None:
    """InstructBLIP's Vicuna tokenizer opens a question with `</s>` and pads with a token of its own."""
    path = folder / "tokenizer_config.json"
    settings = json.loads(path.read_text())
    settings |= {"bos_token": "</s>", "unk_token": "</s>", "pad_token": "[PAD]", "truncation_side": "left"}
    settings["processor_class"] = "InstructBlipProcessor"
    path.write_text(json.dumps(settings, indent=2))
    tokenizer = json.loads((folder / "tokenizer.json").read_text())
    end = next(token["id"] for token in tokenizer["added_tokens"] if token["content"] == "</s>")
    template = tokenizer["post_processor"]
    template["single"][0] = {"SpecialToken": {"id": "</s>", "type_id": 0}}
    template["special_tokens"] = {"</s>": {"id": "</s>", "ids": [end], "tokens": ["</s>"]}}
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer))
