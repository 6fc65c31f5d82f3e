"""Families whose pictures keep their shape and whose positions have three axes: Qwen-VL and Qwen-Omni."""

from __future__ import annotations

from typing import Any

from transformers import (
    AutoConfig,
    PreTrainedConfig,
    ProcessorMixin,
    Qwen2_5_VLProcessor,
    Qwen2_5OmniProcessor,
    Qwen2VLImageProcessor,
    Qwen2VLProcessor,
    Qwen2VLVideoProcessor,
    Qwen3OmniMoeProcessor,
    Qwen3VLProcessor,
    Qwen3VLVideoProcessor,
    WhisperFeatureExtractor,
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


def _omni_processor(cls: type[ProcessorMixin], ids: Ids) -> ProcessorMixin:
    return cls(
        image_processor=Qwen2VLImageProcessor(**PATCHES, size=PICTURE_SIZE),
        video_processor=Qwen2VLVideoProcessor(**PATCHES, size=PICTURE_SIZE, cap_pixels_per_frame=True),
        feature_extractor=WhisperFeatureExtractor(feature_size=16),
        tokenizer=ids.tokenizer,
    )


OMNI_VIDEO: dict[str, Any] = {"videos_kwargs": {"size": PICTURE_SIZE, "fps": 2.0}}
"""Its processors replace the saved size at every call and know a clip's speed by this argument alone."""
AUDIO: dict[str, Any] = {
    "num_mel_bins": 16,
    "encoder_layers": 2,
    "encoder_attention_heads": 2,
    "encoder_ffn_dim": 32,
    "d_model": 32,
    "output_dim": 32,
}


def _qwen2_5_omni(ids: Ids) -> tuple[PreTrainedConfig, ProcessorMixin]:
    processor = _omni_processor(Qwen2_5OmniProcessor, ids)
    vision = {name: value for name, value in WINDOWS.items() if name != "tokens_per_second"}
    config = AutoConfig.for_model(
        "qwen2_5_omni_thinker",
        text_config=ids.text("qwen2_5_omni_text", rope_parameters=rope(1, 1, 2)),
        vision_config=vision,
        audio_config=AUDIO,
        audio_token_index=ids["<|AUDIO|>"],
        image_token_index=ids["<|IMAGE|>"],
        video_token_index=ids["<|VIDEO|>"],
        audio_start_token_id=ids["<|audio_bos|>"],
        audio_end_token_id=ids["<|audio_eos|>"],
        vision_start_token_id=ids["<|vision_bos|>"],
        vision_end_token_id=ids["<|vision_eos|>"],
    )
    return config, processor


def _qwen3_omni(ids: Ids) -> tuple[PreTrainedConfig, ProcessorMixin]:
    processor = _omni_processor(Qwen3OmniMoeProcessor, ids)
    config = AutoConfig.for_model(
        "qwen3_omni_moe_thinker",
        text_config=ids.text("qwen3_omni_moe_text", head_dim=8, rope_parameters=THREE, **EXPERTS),
        vision_config=DEEPSTACK,
        audio_config={**AUDIO, "downsample_hidden_size": 16},
        audio_token_id=ids["<|audio_pad|>"],
        image_token_id=ids["<|image_pad|>"],
        video_token_id=ids["<|video_pad|>"],
        audio_start_token_id=ids["<|audio_start|>"],
        audio_end_token_id=ids["<|audio_end|>"],
        vision_start_token_id=ids["<|vision_start|>"],
        vision_end_token_id=ids["<|vision_end|>"],
    )
    return config, processor


def _qwen4_exp(ids: Ids) -> tuple[PreTrainedConfig, ProcessorMixin]:
    processor = shared_budget(Qwen3VLProcessor, ids)
    text = ids.text(
        "qwen4_exp_text",
        rope_parameters=rope(3, 3, 2, mrope_interleaved=True),
        **{**LINEAR, "head_dim": 16},
        **EXPERTS,
        shared_expert_intermediate_size=16,
        hc_count=2,
        hc_lowrank=8,
        indexer_n_heads=2,
        indexer_kv_heads=1,
        indexer_head_dim=16,
        indexer_budget=64,
        indexer_compress_ratio=2,
        ple_layer_ids=[1, 3],
        ngram_vocab_size_base=200,
        heads_per_ngram=2,
    )
    return AutoConfig.for_model("qwen4_exp", text_config=text, vision_config=PLAIN, **vision_ids(ids)), processor


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
    Kind("qwen4_exp", chat=_NEW, build=_qwen4_exp, **_QWEN),
    Kind(
        "qwen2_5_omni_thinker",
        words=Words(
            special=("<|im_start|>",),
            named={
                "image_token": "<|IMAGE|>",
                "audio_token": "<|AUDIO|>",
                "video_token": "<|VIDEO|>",
                "vision_bos_token": "<|vision_bos|>",
                "vision_eos_token": "<|vision_eos|>",
                "audio_bos_token": "<|audio_bos|>",
                "audio_eos_token": "<|audio_eos|>",
            },
            pad="<|endoftext|>",
            eos="<|im_end|>",
        ),
        chat=chatml(
            image="<|vision_bos|><|IMAGE|><|vision_eos|>",
            video="<|vision_bos|><|VIDEO|><|vision_eos|>",
            audio="<|audio_bos|><|AUDIO|><|audio_eos|>",
            system=QWEN_SYSTEM,
        ),
        build=_qwen2_5_omni,
        takes_video=True,
        takes_audio=True,
        image="<|vision_bos|><|IMAGE|><|vision_eos|>",
        video="<|vision_bos|><|VIDEO|><|vision_eos|>",
        audio="<|audio_bos|><|AUDIO|><|audio_eos|>",
        video_options=OMNI_VIDEO,
    ),
    Kind(
        "qwen3_omni_moe_thinker",
        words=Words(
            special=("<|im_start|>",),
            named={
                "image_token": "<|image_pad|>",
                "audio_token": "<|audio_pad|>",
                "video_token": "<|video_pad|>",
                "vision_bos_token": "<|vision_start|>",
                "vision_eos_token": "<|vision_end|>",
                "audio_bos_token": "<|audio_start|>",
                "audio_eos_token": "<|audio_end|>",
            },
            pad="<|endoftext|>",
            eos="<|im_end|>",
        ),
        chat=chatml(image=IMAGE, video=VIDEO, audio="<|audio_start|><|audio_pad|><|audio_end|>"),
        build=_qwen3_omni,
        takes_video=True,
        takes_audio=True,
        image=IMAGE,
        video=VIDEO,
        audio="<|audio_start|><|audio_pad|><|audio_end|>",
        video_options=OMNI_VIDEO,
    ),
)
