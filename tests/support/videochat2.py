"""A tiny VideoChat2 in the layout of the released files, from the golden data of `crema-videochat2`."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors.torch import load_file
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from torch import Tensor
from transformers import MistralConfig, MistralForCausalLM, PreTrainedTokenizerFast

from crema_videochat2.checkpoint import Sizes, write_checkpoint
from crema_videochat2.model import VideoChat2
from crema_videochat2.released import convert_state, read_file

DATA = Path(__file__).parents[2] / "plugins" / "crema-videochat2" / "tests" / "golden"
SIZES = Sizes(
    vision_heads=3, qformer_heads=4, image_size=24, trained_image_size=24, max_instruction_tokens=16, num_frames=16
)
SIDE, QUERIES, FEATURES = 24, 12, 36


class Golden(NamedTuple):
    """One golden file."""

    tensors: dict[str, Tensor]
    about: dict[str, Any]


@cache
def golden(name: str) -> Golden:
    """Return tensors and description of a golden file; nobody may write to them."""
    about = json.loads((DATA / f"{name}.json").read_text(encoding="utf-8"))
    file = DATA / f"{name}.safetensors"
    return Golden(load_file(file) if file.is_file() else {}, about)


def released_state() -> dict[str, Tensor]:
    """Return the toy stage-3 checkpoint under the released names."""
    return dict(golden("checkpoint_stage3").tensors)


def stage_2_state() -> dict[str, Tensor]:
    """Return what of it a stage-2 file holds."""
    keys = golden("checkpoint_stage3").about["stage2_keys"]
    return {key: value for key, value in released_state().items() if key in keys}


def language_tokenizer() -> PreTrainedTokenizerFast:
    """Return the toy tokenizer of the language model; like Mistral's it has no padding token."""
    file = str(DATA / "toy_tokenizer.json")
    return PreTrainedTokenizerFast(tokenizer_file=file, bos_token="<s>", eos_token="</s>", unk_token="<unk>")


def bert_tokenizer() -> PreTrainedTokenizerFast:
    """Return the toy tokenizer of the Q-Former; the token [DEC] is added when a checkpoint is written."""
    words = golden("qformer").about["toy_vocabulary"]
    rows = golden("qformer").about["config"]["vocab"]
    vocabulary = {word: number for number, word in enumerate([*words, *(f"w{i}" for i in range(rows - len(words)))])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", vocabulary["[CLS]"]), ("[SEP]", vocabulary["[SEP]"])]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="[PAD]", unk_token="[UNK]", cls_token="[CLS]", sep_token="[SEP]"
    )


def language_config() -> MistralConfig:
    """Return the sizes of the toy Mistral."""
    own = golden("mistral").about["config"]
    return MistralConfig(
        vocab_size=own["vocab"],
        hidden_size=own["hidden"],
        intermediate_size=own["ffn"],
        num_hidden_layers=own["layers"],
        num_attention_heads=own["heads"],
        num_key_value_heads=own["kv"],
        head_dim=own["hidden"] // own["heads"],
        rope_parameters={"rope_type": "default", "rope_theta": own["rope_theta"]},
        rms_norm_eps=own["rms_norm_eps"],
        sliding_window=own["sliding_window"],
        bos_token_id=own["bos"],
        eos_token_id=own["eos"],
        tie_word_embeddings=False,
    )


def save_language_model(place: Path) -> Path:
    """Write the toy Mistral as the hub has it."""
    model = MistralForCausalLM(language_config())
    model.load_state_dict(golden("mistral").tensors)
    model.save_pretrained(place)
    language_tokenizer().save_pretrained(place)
    return place


def save_released(place: Path, *, nested: bool = False) -> Path:
    """Write the toy stage-3 file, its weights flat or under the key `model`."""
    state = released_state()
    torch.save({"model": state, "epoch": 2} if nested else state, place)
    return place


def save_videochat2(place: Path, **settings: Any) -> Path:
    """Write everything and convert it, as `crema convert-videochat2` does; return the converted folder."""
    place.mkdir(parents=True, exist_ok=True)
    language = place / "mistral"
    if not language.exists():
        save_language_model(language)
        bert_tokenizer().save_pretrained(place / "bert")
    out = place / f"videochat2-{len(list(place.iterdir()))}"
    weights = convert_state(read_file(save_released(place / "stage3.pth")))
    write_checkpoint(
        out, weights, language_model=str(language), qformer_tokenizer=str(place / "bert"), sizes=SIZES, **settings
    )
    return out


def load_videochat2(place: Path) -> VideoChat2:
    """Return the whole model as released."""
    return VideoChat2.from_pretrained(place)


def assert_forward(found: Tensor, wanted: Tensor) -> None:
    """Hold the tolerance of the golden data for values."""
    error = float((found.detach() - wanted).abs().max())
    assert error <= 1e-5 * max(1.0, float(wanted.abs().max())), f"differs by {error:g}"


def assert_gradient(found: Tensor | None, wanted: Tensor) -> None:
    """Hold the tolerance of the golden data for gradients."""
    assert found is not None, "no gradient"
    error = float((found.detach() - wanted).abs().max())
    assert error <= 1e-4 * float(wanted.abs().max()), f"differs by {error:g} of {float(wanted.abs().max()):g}"
