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
    Qwen2Config,
    SiglipVisionConfig,
    VideoLlavaConfig,
    VideoLlavaForConditionalGeneration,
)

from tests.support.tokenizers import Kind, save_tokenizer

VideoKind = Literal["llava-onevision", "video-llava"]
VIDEO_KINDS: tuple[VideoKind, ...] = ("llava-onevision", "video-llava")
SIDE = 20
"""Of an image, in pixels: 5 x 5 patches, an odd number as the published models have."""
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


def save_video_model(folder: Path, kind: VideoKind, *, seed: int = 0) -> Path:
    """Write a video language model of a kind; returns the folder."""
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
