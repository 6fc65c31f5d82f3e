"""Families whose projected patches stand in a prompt of a plain language model: LLaVA and those made like it."""

from __future__ import annotations

from typing import Any

from transformers import (
    AutoConfig,
    CLIPImageProcessor,
    GotOcr2ImageProcessor,
    InternVLProcessor,
    InternVLVideoProcessor,
    LlavaImageProcessor,
    LlavaNextImageProcessor,
    LlavaNextProcessor,
    LlavaNextVideoProcessor,
    LlavaNextVideoVideoProcessor,
    LlavaOnevisionImageProcessor,
    LlavaOnevisionProcessor,
    LlavaOnevisionVideoProcessor,
    LlavaProcessor,
    PreTrainedConfig,
    ProcessorMixin,
    VideoLlavaImageProcessor,
    VideoLlavaProcessor,
    VideoLlavaVideoProcessor,
)

from tests.support.vlm.chats import chat_template, chatml
from tests.support.vlm.kinds import Ids, Kind, Words

SIDE = 32
"""Of a picture, in pixels: 4 x 4 patches of 8 x 8."""
SQUARE = {"height": SIDE, "width": SIDE}
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


def _llava(ids: Ids) -> tuple[PreTrainedConfig, ProcessorMixin]:
    processor = LlavaProcessor(
        image_processor=LlavaImageProcessor(size={"shortest_edge": SIDE}, crop_size=SQUARE),
        tokenizer=ids.tokenizer,
        patch_size=8,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
    )
    config = AutoConfig.for_model(
        "llava",
        text_config=ids.text("llama"),
        vision_config=clip_tower(),
        image_token_index=ids["<image>"],
        image_seq_length=16,
    )
    return config, processor


def _vipllava(ids: Ids) -> tuple[PreTrainedConfig, ProcessorMixin]:
    processor = LlavaProcessor(
        image_processor=CLIPImageProcessor(size={"shortest_edge": SIDE}, crop_size=SQUARE),
        tokenizer=ids.tokenizer,
        patch_size=8,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
    )
    config = AutoConfig.for_model(
        "vipllava",
        text_config=ids.text("llama"),
        vision_config=clip_tower(),
        vision_feature_layer=[-2, -3, 1],
        image_token_index=ids["<image>"],
        image_seq_length=16,
    )
    return config, processor


def _llava_next(ids: Ids) -> tuple[PreTrainedConfig, ProcessorMixin]:
    processor = LlavaNextProcessor(
        image_processor=LlavaNextImageProcessor(
            size={"shortest_edge": SIDE}, crop_size=SQUARE, image_grid_pinpoints=PINPOINTS
        ),
        tokenizer=ids.tokenizer,
        patch_size=8,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
    )
    config = AutoConfig.for_model(
        "llava_next",
        text_config=ids.text("mistral", head_dim=8),
        vision_config=clip_tower(),
        image_grid_pinpoints=PINPOINTS,
        image_token_index=ids["<image>"],
    )
    return config, processor


def _video_llava(ids: Ids) -> tuple[PreTrainedConfig, ProcessorMixin]:
    size = {"size": {"shortest_edge": SIDE}, "crop_size": SQUARE}
    processor = VideoLlavaProcessor(
        image_processor=VideoLlavaImageProcessor(**size),
        tokenizer=ids.tokenizer,
        video_processor=VideoLlavaVideoProcessor(**size),
        patch_size=8,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
    )
    config = AutoConfig.for_model(
        "video_llava",
        text_config=ids.text("llama"),
        vision_config=clip_tower(),
        image_token_index=ids["<image>"],
        video_token_index=ids["<video>"],
        image_seq_length=16,
        video_seq_length=8 * 17,
    )
    return config, processor


def _fast_vlm(ids: Ids) -> tuple[PreTrainedConfig, ProcessorMixin]:
    processor = LlavaProcessor(
        image_processor=CLIPImageProcessor(
            size={"shortest_edge": 128},
            crop_size={"height": 128, "width": 128},
            image_mean=[0.0, 0.0, 0.0],
            image_std=[1.0, 1.0, 1.0],
        ),
        tokenizer=ids.tokenizer,
        patch_size=64,
        vision_feature_select_strategy="full",
        num_additional_image_tokens=0,
    )
    sizes = {"inference_mode": True, "layers": [1] * 5, "embed_dims": [8, 16, 16, 32, 32]}
    config = AutoConfig.for_model(
        "fast_vlm",
        text_config=ids.text("qwen2"),
        vision_config={
            "model_type": "timm_wrapper",
            "architecture": "fastvit_mci3",
            "do_pooling": True,
            "global_pool": "avg",
            "hidden_size": 64,
            "image_size": [128, 128],
            "model_args": sizes,
        },
        image_token_index=ids["<image>"],
        image_seq_length=4,
    )
    return config, processor


FAMILY = (
    Kind("llava", words=LLAMA, chat=VICUNA, build=_llava, square=True),
    Kind(
        "vipllava",
        words=LLAMA,
        chat=chat_template(
            {"system": ("", ""), "user": ("###Human: ", ""), "assistant": ("###Assistant: ", "")},
            answer="###Assistant:",
            image="<image>\n",
            media_first=True,
        ),
        build=_vipllava,
        square=True,
    ),
    Kind(
        "llava_next",
        words=LLAMA,
        chat=chat_template(
            {"system": ("<<SYS>>\n", "\n<</SYS>>\n\n"), "user": ("[INST] ", " [/INST]"), "assistant": (" ", "</s> ")},
            answer="",
            image="<image>\n",
            media_first=True,
        ),
        build=_llava_next,
    ),
    Kind("video_llava", words=LLAMA, chat=VICUNA, build=_video_llava, takes_video=True, square=True),
    Kind("fast_vlm", words=CHATML, chat=chatml(image="<image>\n"), build=_fast_vlm, square=True),
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
