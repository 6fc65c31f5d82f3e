"""Video language models as the hub has them, with few narrow layers and random weights.

Written by transformers, with the tokenizer of their language model and the processor's chat template beside it.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Literal

import torch
from tokenizers import AddedToken, Tokenizer
from transformers import (
    CLIPVisionConfig,
    LlamaConfig,
    LlavaOnevisionConfig,
    LlavaOnevisionForConditionalGeneration,
    PreTrainedModel,
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
    Qwen2Config,
    Qwen2VLConfig,
    Qwen2VLForConditionalGeneration,
    SiglipVisionConfig,
    VideoLlavaConfig,
    VideoLlavaForConditionalGeneration,
)

from tests.support.tokenizers import Kind, save_tokenizer

VideoKind = Literal["llava-onevision", "video-llava", "qwen2-vl", "qwen2.5-vl"]
VIDEO_KINDS: tuple[VideoKind, ...] = ("llava-onevision", "video-llava")
QWEN_KINDS: tuple[VideoKind, ...] = ("qwen2-vl", "qwen2.5-vl")
SIDE = 20
"""Of an image, in pixels: 5 x 5 patches, an odd number as the published models have."""
QWEN_SIDE = 24
"""Of an image for the Qwen-VL kinds: 3 x 3 tokens of 2 x 2 patches, in windows of 2 x 2 tokens."""
_TEXT = "selectattr('type', 'equalto', 'text') %}"
ONEVISION_CHAT = (
    "{% for message in messages %}{{'<|im_start|>' + message['role'] + ' '}}"
    "{% for content in message['content'] | selectattr('type', 'equalto', 'image') %}{{ '<image>' }}{% endfor %}"
    "{% for content in message['content'] | selectattr('type', 'equalto', 'video') %}{{ '<video>' }}{% endfor %}"
    "{% for content in message['content'] | " + _TEXT + "{{ '\n' + content['text'] }}{% endfor %}"
    "{{'<|im_end|>'}}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
VIDEO_LLAVA_CHAT = (
    "{% for message in messages %}{{ message['role'].upper() + ': ' }}"
    "{% for content in message['content'] | selectattr('type', 'equalto', 'video') %}{{ '<video>\n' }}{% endfor %}"
    "{% for content in message['content'] | " + _TEXT + "{{ content['text'] + ' ' }}{% endfor %}"
    "{% endfor %}{% if add_generation_prompt %}{{ 'ASSISTANT:' }}{% endif %}"
)
QWEN_CHAT = (
    "{% for message in messages %}{% if loop.first and message['role'] != 'system' %}<|im_start|>system\n"
    "You are a helpful assistant.<|im_end|>\n{% endif %}<|im_start|>{{ message['role'] }}\n"
    "{% if message['content'] is string %}{{ message['content'] }}<|im_end|>\n"
    "{% else %}{% for content in message['content'] %}"
    "{% if content['type'] == 'video' %}<|vision_start|><|video_pad|><|vision_end|>"
    "{% elif 'text' in content %}{{ content['text'] }}{% endif %}{% endfor %}<|im_end|>\n{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def save_video_model(folder: Path, kind: VideoKind, *, seed: int = 0) -> Path:
    """Write a video language model of a kind; returns the folder."""
    if kind in QWEN_KINDS:
        return _save_qwen(folder, kind, seed=seed)
    onevision = kind == "llava-onevision"
    words: Kind = "qwen" if onevision else "llama"
    ids = _tokenizer(
        folder, words, added=("<image>", "<video>"), chat=ONEVISION_CHAT if onevision else VIDEO_LLAVA_CHAT
    )
    torch.manual_seed(seed)
    model = _onevision(ids) if onevision else _video_llava(ids)
    draw(model)
    model.save_pretrained(folder)
    mean = [0.5, 0.5, 0.5] if onevision else [0.48145466, 0.4578275, 0.40821073]
    std = [0.5, 0.5, 0.5] if onevision else [0.26862954, 0.26130258, 0.27577711]
    (folder / "preprocessor_config.json").write_text(json.dumps({"image_mean": mean, "image_std": std}))
    return folder


def draw(model: PreTrainedModel) -> None:
    """Give every matrix weights large enough that each part of the input shows in the output."""
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() > 1:
                parameter.normal_(std=0.2)
            elif not bool(parameter.any()):
                parameter.normal_(std=0.1)


def _tokenizer(folder: Path, kind: Kind, *, added: tuple[str, ...], chat: str) -> dict[str, int]:
    save_tokenizer(folder, kind)
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.add_special_tokens([AddedToken(text, special=True, normalized=False) for text in added])
    tokenizer.save(str(folder / "tokenizer.json"))
    (folder / "chat_template.json").write_text(json.dumps({"chat_template": chat}))
    ids = {text: tokenizer.token_to_id(text) for text in (*added, "<|im_end|>", "<|endoftext|>", "<s>", "</s>")}
    return {**ids, "size": tokenizer.get_vocab_size()}


def _onevision(ids: dict[str, Any]) -> PreTrainedModel:
    return LlavaOnevisionForConditionalGeneration(
        LlavaOnevisionConfig(
            vision_config=SiglipVisionConfig(
                hidden_size=12,
                intermediate_size=24,
                num_hidden_layers=2,
                num_attention_heads=2,
                image_size=SIDE,
                patch_size=4,
                vision_use_head=False,
            ),
            text_config=Qwen2Config(
                vocab_size=ids["size"] + 3,
                hidden_size=24,
                intermediate_size=40,
                num_hidden_layers=2,
                num_attention_heads=4,
                num_key_value_heads=2,
                max_position_embeddings=512,
                eos_token_id=ids["<|im_end|>"],
                bos_token_id=ids["<|endoftext|>"],
                pad_token_id=ids["<|endoftext|>"],
            ),
            image_token_index=ids["<image>"],
            video_token_index=ids["<video>"],
        )
    )


def _video_llava(ids: dict[str, Any]) -> PreTrainedModel:
    vision = CLIPVisionConfig(
        hidden_size=12,
        intermediate_size=24,
        num_hidden_layers=3,
        num_attention_heads=2,
        image_size=SIDE,
        patch_size=4,
        projection_dim=12,
    )
    return VideoLlavaForConditionalGeneration(
        VideoLlavaConfig(
            vision_config=vision,
            text_config=LlamaConfig(
                vocab_size=ids["size"] + 3,
                hidden_size=24,
                intermediate_size=40,
                num_hidden_layers=2,
                num_attention_heads=4,
                num_key_value_heads=4,
                max_position_embeddings=512,
                bos_token_id=ids["<s>"],
                eos_token_id=ids["</s>"],
                pad_token_id=None,
            ),
            image_token_index=ids["<image>"],
            video_token_index=ids["<video>"],
            video_seq_length=25 * 8,
        )
    )


def _save_qwen(folder: Path, kind: VideoKind, *, seed: int) -> Path:
    marks = ("<|vision_start|>", "<|vision_end|>", "<|image_pad|>", "<|video_pad|>")
    ids = _tokenizer(folder, "qwen", added=marks, chat=QWEN_CHAT)
    newer = kind == "qwen2.5-vl"
    text = {
        "vocab_size": ids["size"] + 3,
        "hidden_size": 32,
        "intermediate_size": 40,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
        "max_position_embeddings": 512,
        "eos_token_id": ids["<|im_end|>"],
        "bos_token_id": ids["<|endoftext|>"],
        "pad_token_id": ids["<|endoftext|>"],
        "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0, "mrope_section": [2, 3, 3]},
    }
    vision: dict[str, Any] = {"depth": 2, "num_heads": 2, "patch_size": 4}
    if newer:  # a window of two tokens across, so that one of three is cut
        vision |= {"hidden_size": 16, "intermediate_size": 20, "out_hidden_size": 32}
        vision |= {"window_size": 16, "fullatt_block_indexes": [1], "tokens_per_second": 2}
    else:
        vision |= {"embed_dim": 16, "hidden_size": 32, "mlp_ratio": 2}
    settings = {
        "text_config": text,
        "vision_config": vision,
        "image_token_id": ids["<|image_pad|>"],
        "video_token_id": ids["<|video_pad|>"],
        "vision_start_token_id": ids["<|vision_start|>"],
        "vision_end_token_id": ids["<|vision_end|>"],
    }
    torch.manual_seed(seed)
    model: PreTrainedModel = (
        Qwen2_5_VLForConditionalGeneration(Qwen2_5_VLConfig(**settings))
        if newer
        else Qwen2VLForConditionalGeneration(Qwen2VLConfig(**settings))
    )
    draw(model)
    model.save_pretrained(folder)
    statistics = {"image_mean": [0.48145466, 0.4578275, 0.40821073], "image_std": [0.26862954, 0.26130258, 0.27577711]}
    sizes = {"patch_size": 4, "temporal_patch_size": 2, "merge_size": 2, "min_pixels": 64, "max_pixels": 6400}
    (folder / "preprocessor_config.json").write_text(json.dumps({**statistics, **sizes}))
    return folder
