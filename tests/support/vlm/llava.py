"""Families whose projected patches stand in a prompt of a plain language model: LLaVA and those made like it."""

from __future__ import annotations

from typing import Any

from transformers import (
    AutoConfig,
    GotOcr2ImageProcessor,
    InternVLProcessor,
    InternVLVideoProcessor,
    LlavaNextImageProcessor,
    LlavaNextVideoProcessor,
    LlavaNextVideoVideoProcessor,
    LlavaOnevisionImageProcessor,
    LlavaOnevisionProcessor,
    LlavaOnevisionVideoProcessor,
    PreTrainedConfig,
    ProcessorMixin,
)

from tests.support.vlm.chats import chat_template, chatml
from tests.support.vlm.kinds import Ids, Kind, Words

SIDE = 32
"""Of a picture, in pixels: 4 x 4 patches of 8 x 8."""
PINPOINTS = [[32, 32], [32, 64], [64, 32], [64, 64]]
LLAMA = Words(named={"image_token": "<image>", "video_token": "<video>"}, bos="<s>", unk="<unk>", opens=True)
CHATML = Words(
    special=("<|im_start|>",),
    named={"image_token": "<image>", "video_token": "<video>"},
    pad="<|endoftext|>",
    eos="<|im_end|>",
)
VICUNA = chat_template(
    {"system": ("", " "), "user": ("USER: ", " "), "assistant": ("ASSISTANT: ", " ")},
    answer="ASSISTANT:",
    image="<image>\n",
    video="<video>\n",
    media_first=True,
)


def clip_tower(**options: Any) -> dict[str, Any]:
    """Return the configuration of a CLIP vision encoder of 16 patches."""
    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 3, "num_attention_heads": 2}
    return {"model_type": "clip_vision_model", **sizes, "image_size": SIDE, "patch_size": 8, **options}


def siglip_tower(**options: Any) -> dict[str, Any]:
    """Return the configuration of a SigLIP vision encoder of 16 patches."""
    return {**clip_tower(), "model_type": "siglip_vision_model", "vision_use_head": False, **options}


def _internvl(ids: Ids) -> tuple[PreTrainedConfig, ProcessorMixin]:
    size = {"height": SIDE, "width": SIDE}
    processor = InternVLProcessor(
        image_processor=GotOcr2ImageProcessor(size=size, crop_to_patches=True, min_patches=1, max_patches=2),
        tokenizer=ids.tokenizer,
        video_processor=InternVLVideoProcessor(size=size),
        image_seq_length=4,
    )
    vision = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
    config = AutoConfig.for_model(
        "internvl",
        text_config=ids.text("qwen2"),
        vision_config={"model_type": "internvl_vision", **vision, "image_size": [SIDE] * 2, "patch_size": [8, 8]},
        image_token_id=ids["<IMG_CONTEXT>"],
        image_seq_length=4,
    )
    return config, processor


def _llava_onevision(ids: Ids) -> tuple[PreTrainedConfig, ProcessorMixin]:
    size = {"height": SIDE, "width": SIDE}
    processor = LlavaOnevisionProcessor(
        image_processor=LlavaOnevisionImageProcessor(size=size, image_grid_pinpoints=PINPOINTS),
        tokenizer=ids.tokenizer,
        video_processor=LlavaOnevisionVideoProcessor(size=size),
        num_image_tokens=16,
        vision_feature_select_strategy="full",
    )
    config = AutoConfig.for_model(
        "llava_onevision",
        text_config=ids.text("qwen2"),
        vision_config=siglip_tower(),
        image_grid_pinpoints=PINPOINTS,
        image_token_index=ids["<image>"],
        video_token_index=ids["<video>"],
    )
    return config, processor


def _llava_next_video(ids: Ids) -> tuple[PreTrainedConfig, ProcessorMixin]:
    size, crop = {"shortest_edge": SIDE}, {"height": SIDE, "width": SIDE}
    processor = LlavaNextVideoProcessor(
        image_processor=LlavaNextImageProcessor(size=size, crop_size=crop, image_grid_pinpoints=PINPOINTS),
        tokenizer=ids.tokenizer,
        video_processor=LlavaNextVideoVideoProcessor(size=size, crop_size=crop),
        patch_size=8,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
    )
    config = AutoConfig.for_model(
        "llava_next_video",
        text_config=ids.text("llama"),
        vision_config=clip_tower(),
        image_grid_pinpoints=PINPOINTS,
        image_token_index=ids["<image>"],
        video_token_index=ids["<video>"],
    )
    return config, processor


FAMILY = (
    Kind(
        "internvl",
        words=Words(
            special=("<|im_start|>",),
            named={
                "start_image_token": "<img>",
                "end_image_token": "</img>",
                "context_image_token": "<IMG_CONTEXT>",
                "video_token": "<video>",
            },
            pad="<|endoftext|>",
            eos="<|im_end|>",
        ),
        chat=chatml(image="<IMG_CONTEXT>\n", video="<video>\n"),
        build=_internvl,
        takes_video=True,
        image="<IMG_CONTEXT>",
        square=True,
    ),
    Kind(
        "llava_onevision",
        words=CHATML,
        chat=chat_template(
            {role: (f"<|im_start|>{role} ", "<|im_end|>") for role in ("system", "user", "assistant")},
            answer="<|im_start|>assistant\n",
            image="<image>",
            video="<video>",
            text="{{ '\\n' + part['text'] }}",
            media_first=True,
        ),
        build=_llava_onevision,
        takes_video=True,
    ),
    Kind("llava_next_video", words=LLAMA, chat=VICUNA, build=_llava_next_video, takes_video=True),
)
