"""Families whose pictures keep their shape and whose positions have three axes: Qwen-VL and Qwen-Omni."""

from __future__ import annotations

from typing import Any

from transformers import (
    AutoConfig,
    PreTrainedConfig,
    ProcessorMixin,
    Qwen2_5_VLProcessor,
    Qwen2VLImageProcessor,
    Qwen2VLProcessor,
    Qwen2VLVideoProcessor,
    Qwen3VLProcessor,
    Qwen3VLVideoProcessor,
)

from tests.support.vlm.chats import QWEN_SYSTEM, chatml
from tests.support.vlm.kinds import Ids, Kind, Words

IMAGE = "<|vision_start|><|image_pad|><|vision_end|>"
VIDEO = "<|vision_start|><|video_pad|><|vision_end|>"
MARKS = {
    "image_token": "<|image_pad|>",
    "video_token": "<|video_pad|>",
    "vision_start_token": "<|vision_start|>",
    "vision_end_token": "<|vision_end|>",
}
WORDS = Words(special=("<|im_start|>",), named=MARKS, pad="<|endoftext|>", eos="<|im_end|>")
PATCHES: dict[str, Any] = {"patch_size": 4, "temporal_patch_size": 2, "merge_size": 2}
PICTURE_SIZE = {"shortest_edge": 4 * 64, "longest_edge": 16 * 64}
"""Of a picture, in pixels: 4 to 16 tokens of 8 x 8 pixels; 40 x 56 pixels become 3 x 4 tokens."""
CLIP_SIZE = {"shortest_edge": 4 * 64, "longest_edge": 4 * 16 * 64}
"""Of a whole clip, in pixels, where all frames share a budget: four frames as large as a picture."""


def vision_ids(ids: Ids) -> dict[str, int]:
    """Return the ids a configuration of Qwen-VL holds."""
    return {
        "image_token_id": ids["<|image_pad|>"],
        "video_token_id": ids["<|video_pad|>"],
        "vision_start_token_id": ids["<|vision_start|>"],
        "vision_end_token_id": ids["<|vision_end|>"],
    }


def rope(*section: int, **options: Any) -> dict[str, Any]:
    """Return rotary positions whose axes of time, height and width have these widths."""
    return {"rope_type": "default", "rope_theta": 10000.0, "mrope_section": list(section), **options}


def shared_budget(cls: type[ProcessorMixin], ids: Ids) -> ProcessorMixin:
    """Return a processor whose frames share the pixels of a clip."""
    return cls(
        image_processor=Qwen2VLImageProcessor(**PATCHES, size=PICTURE_SIZE),
        tokenizer=ids.tokenizer,
        video_processor=Qwen3VLVideoProcessor(**PATCHES, size=CLIP_SIZE),
    )


def budget_per_frame(cls: type[ProcessorMixin], ids: Ids) -> ProcessorMixin:
    """Return a processor whose frames are as large as pictures."""
    return cls(
        image_processor=Qwen2VLImageProcessor(**PATCHES, size=PICTURE_SIZE),
        tokenizer=ids.tokenizer,
        video_processor=Qwen2VLVideoProcessor(**PATCHES, size=PICTURE_SIZE, cap_pixels_per_frame=True),
    )


def _qwen2_vl(ids: Ids) -> tuple[PreTrainedConfig, ProcessorMixin]:
    processor = budget_per_frame(Qwen2VLProcessor, ids)
    vision = {"depth": 2, "embed_dim": 32, "hidden_size": 32, "num_heads": 2, "mlp_ratio": 2, "patch_size": 4}
    text = ids.text("qwen2_vl_text", rope_parameters=rope(1, 1, 2))
    return AutoConfig.for_model("qwen2_vl", text_config=text, vision_config=vision, **vision_ids(ids)), processor


def _qwen2_5_vl(ids: Ids) -> tuple[PreTrainedConfig, ProcessorMixin]:
    processor = budget_per_frame(Qwen2_5_VLProcessor, ids)
    text = ids.text("qwen2_5_vl_text", rope_parameters=rope(1, 1, 2))
    config = AutoConfig.for_model("qwen2_5_vl", text_config=text, vision_config=WINDOWS, **vision_ids(ids))
    return config, processor


WINDOWS: dict[str, Any] = {
    "depth": 2,
    "hidden_size": 32,
    "out_hidden_size": 32,
    "num_heads": 2,
    "intermediate_size": 32,
    "patch_size": 4,
    "window_size": 16,
    "fullatt_block_indexes": [1],
    "tokens_per_second": 2,
}
DEEPSTACK: dict[str, Any] = {
    "depth": 3,
    "hidden_size": 32,
    "out_hidden_size": 32,
    "num_heads": 2,
    "intermediate_size": 32,
    "patch_size": 4,
    "num_position_embeddings": 64,
    "deepstack_visual_indexes": [0, 1],
}
EXPERTS: dict[str, Any] = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 16}
LINEAR: dict[str, Any] = {
    "num_hidden_layers": 4,
    "head_dim": 32,
    "linear_key_head_dim": 8,
    "linear_value_head_dim": 8,
    "linear_num_key_heads": 2,
    "linear_num_value_heads": 4,
    "partial_rotary_factor": 0.25,
}
THREE = rope(1, 1, 2, mrope_interleaved=True)


def _qwen3_vl(ids: Ids) -> tuple[PreTrainedConfig, ProcessorMixin]:
    processor = shared_budget(Qwen3VLProcessor, ids)
    text = ids.text("qwen3_vl_text", head_dim=8, rope_parameters=THREE)
    config = AutoConfig.for_model("qwen3_vl", text_config=text, vision_config=DEEPSTACK, **vision_ids(ids))
    return config, processor


def _qwen3_vl_moe(ids: Ids) -> tuple[PreTrainedConfig, ProcessorMixin]:
    processor = shared_budget(Qwen3VLProcessor, ids)
    text = ids.text("qwen3_vl_moe_text", head_dim=8, rope_parameters=THREE, **EXPERTS)
    config = AutoConfig.for_model("qwen3_vl_moe", text_config=text, vision_config=DEEPSTACK, **vision_ids(ids))
    return config, processor


PLAIN = {name: value for name, value in DEEPSTACK.items() if name != "deepstack_visual_indexes"}


def _qwen3_5(ids: Ids) -> tuple[PreTrainedConfig, ProcessorMixin]:
    processor = shared_budget(Qwen3VLProcessor, ids)
    text = ids.text("qwen3_5_text", rope_parameters=THREE, **LINEAR)
    return AutoConfig.for_model("qwen3_5", text_config=text, vision_config=PLAIN, **vision_ids(ids)), processor


def _qwen3_5_moe(ids: Ids) -> tuple[PreTrainedConfig, ProcessorMixin]:
    processor = shared_budget(Qwen3VLProcessor, ids)
    experts = {**EXPERTS, "shared_expert_intermediate_size": 16}
    text = ids.text("qwen3_5_moe_text", rope_parameters=THREE, **LINEAR, **experts)
    return AutoConfig.for_model("qwen3_5_moe", text_config=text, vision_config=PLAIN, **vision_ids(ids)), processor


_QWEN: dict[str, Any] = {"words": WORDS, "takes_video": True, "image": IMAGE, "video": VIDEO}
_OLD = chatml(image=IMAGE, video=VIDEO, system=QWEN_SYSTEM)
_NEW = chatml(image=IMAGE, video=VIDEO)

FAMILY = (
    Kind("qwen2_vl", chat=_OLD, build=_qwen2_vl, **_QWEN),
    Kind("qwen2_5_vl", chat=_OLD, build=_qwen2_5_vl, **_QWEN),
    Kind("qwen3_vl", chat=_NEW, build=_qwen3_vl, **_QWEN),
    Kind("qwen3_vl_moe", chat=_NEW, build=_qwen3_vl_moe, **_QWEN),
    Kind("qwen3_5", chat=_NEW, build=_qwen3_5, **_QWEN),
    Kind("qwen3_5_moe", chat=_NEW, build=_qwen3_5_moe, **_QWEN),
)
