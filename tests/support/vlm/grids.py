"""Other families whose pictures keep their shape as a grid of patches: GLM-V, EXAONE, ERNIE, VideoLLaMA, MiniCPM-V."""

from __future__ import annotations

from typing import Any

from transformers import (
    AutoConfig,
    Ernie4_5_VLMoeImageProcessor,
    Ernie4_5_VLMoeProcessor,
    Ernie4_5_VLMoeVideoProcessor,
    Exaone4_5_Processor,
    Glm4vImageProcessor,
    Glm4vProcessor,
    Glm4vVideoProcessor,
    Glm46VImageProcessor,
    Glm46VProcessor,
    Glm46VVideoProcessor,
    Lfm3VlProcessor,
    MiniCPMV4_6ImageProcessor,
    MiniCPMV4_6Processor,
    MiniCPMV4_6VideoProcessor,
    MiniCPMV4_7Processor,
    PreTrainedConfig,
    ProcessorMixin,
    VideoLlama3ImageProcessor,
    VideoLlama3Processor,
    VideoLlama3VideoProcessor,
)

from tests.support.vlm import qwen
from tests.support.vlm.chats import QWEN_SYSTEM, chat_template, chatml
from tests.support.vlm.kinds import Ids, Kind, Words
from tests.support.vlm.qwen import CLIP_SIZE, LINEAR, PATCHES, PICTURE_SIZE, THREE, WINDOWS, rope

GLM = Words(
    special=(
        "[gMASK]",
        "<sop>",
        "<|system|>",
        "<|user|>",
        "<|assistant|>",
        "<|begin_of_image|>",
        "<|end_of_image|>",
        "<|begin_of_video|>",
        "<|end_of_video|>",
    ),
    named={"image_token": "<|image|>", "video_token": "<|video|>"},
    pad="<|endoftext|>",
    eos="<|endoftext|>",
)
GLM_CHAT = chat_template(
    {role: (f"<|{role}|>\n", "") for role in ("system", "user", "assistant")},
    answer="<|assistant|>\n",
    start="[gMASK]<sop>",
    image="<|begin_of_image|><|image|><|end_of_image|>",
    video="<|begin_of_video|><|video|><|end_of_video|>",
)
GLM_VISION: dict[str, Any] = {
    "depth": 2,
    "hidden_size": 32,
    "out_hidden_size": 32,
    "intermediate_size": 32,
    "num_heads": 2,
    "image_size": 32,
    "patch_size": 4,
}


def _glm_ids(ids: Ids) -> dict[str, int]:
    return {
        "image_token_id": ids["<|image|>"],
        "video_token_id": ids["<|video|>"],
        "image_start_token_id": ids["<|begin_of_image|>"],
        "image_end_token_id": ids["<|end_of_image|>"],
        "video_start_token_id": ids["<|begin_of_video|>"],
        "video_end_token_id": ids["<|end_of_video|>"],
    }


def _glm4v(ids: Ids) -> tuple[PreTrainedConfig, ProcessorMixin]:
    processor = Glm4vProcessor(
        image_processor=Glm4vImageProcessor(**PATCHES, size=PICTURE_SIZE),
        tokenizer=ids.tokenizer,
        video_processor=Glm4vVideoProcessor(**PATCHES, size=CLIP_SIZE),
    )
    text = ids.text("glm4v_text", rope_parameters=rope(1, 1, 2, partial_rotary_factor=1.0))
    return AutoConfig.for_model("glm4v", text_config=text, vision_config=GLM_VISION, **_glm_ids(ids)), processor


def _glm46v(ids: Ids) -> tuple[PreTrainedConfig, ProcessorMixin]:
    processor = Glm46VProcessor(
        image_processor=Glm46VImageProcessor(**PATCHES, size=PICTURE_SIZE),
        tokenizer=ids.tokenizer,
        video_processor=Glm46VVideoProcessor(**PATCHES, size=CLIP_SIZE),
    )
    text = ids.text("glm4v_text", rope_parameters=rope(1, 1, 2, partial_rotary_factor=1.0))
    vision = {"model_type": "glm4v_vision", **GLM_VISION}
    return AutoConfig.for_model("glm46v", text_config=text, vision_config=vision, **_glm_ids(ids)), processor


def _glm4v_moe(ids: Ids) -> tuple[PreTrainedConfig, ProcessorMixin]:
    processor = _glm4v(ids)[1]
    text = ids.text(
        "glm4v_moe_text",
        rope_parameters=rope(1, 1, 2, partial_rotary_factor=1.0),
        head_dim=8,
        n_routed_experts=4,
        num_experts_per_tok=2,
        moe_intermediate_size=16,
        first_k_dense_replace=1,
    )
    return AutoConfig.for_model("glm4v_moe", text_config=text, vision_config=GLM_VISION, **_glm_ids(ids)), processor


def _exaone(ids: Ids) -> tuple[PreTrainedConfig, ProcessorMixin]:
    processor = qwen.budget_per_frame(Exaone4_5_Processor, ids)
    vision = {name: value for name, value in WINDOWS.items() if name != "tokens_per_second"}
    config = AutoConfig.for_model(
        "exaone4_5",
        text_config=ids.text(
            "exaone4", head_dim=8, layer_types=["sliding_attention", "full_attention"], sliding_window=16
        ),
        vision_config={**vision, "num_key_value_heads": 1},
        image_token_id=ids["<|image_pad|>"],
        video_token_id=ids["<|video_pad|>"],
    )
    return config, processor


def _ernie(ids: Ids) -> tuple[PreTrainedConfig, ProcessorMixin]:
    processor = Ernie4_5_VLMoeProcessor(
        image_processor=Ernie4_5_VLMoeImageProcessor(patch_size=4, merge_size=2, size=PICTURE_SIZE),
        tokenizer=ids.tokenizer,
        # Times are drawn into the frames with a font that is fetched from the hub.
        video_processor=Ernie4_5_VLMoeVideoProcessor(**PATCHES, size=PICTURE_SIZE, draw_on_frames=False),
    )
    text = ids.text(
        "ernie4_5_vl_moe_text",
        rope_parameters=rope(1, 1, 2),
        moe_num_experts=4,
        moe_k=2,
        moe_num_shared_experts=1,
        moe_intermediate_size=[16, 16],
    )
    vision = {"depth": 2, "hidden_size": 32, "num_heads": 2, "intermediate_size": 32, "patch_size": 4}
    config = AutoConfig.for_model(
        "ernie4_5_vl_moe",
        text_config=text,
        vision_config=vision,
        image_start_token_id=ids["<|IMAGE_START|>"],
        image_end_token_id=ids["<|IMAGE_END|>"],
        image_token_id=ids["<|IMAGE_PLACEHOLDER|>"],
        video_start_token_id=ids["<|VIDEO_START|>"],
        video_end_token_id=ids["<|VIDEO_END|>"],
        video_token_id=ids["<|VIDEO_PLACEHOLDER|>"],
    )
    return config, processor


def _video_llama_3(ids: Ids) -> tuple[PreTrainedConfig, ProcessorMixin]:
    processor = VideoLlama3Processor(
        image_processor=VideoLlama3ImageProcessor(
            patch_size=4, merge_size=1, size={"shortest_edge": 64, "longest_edge": 256}
        ),
        tokenizer=ids.tokenizer,
        video_processor=VideoLlama3VideoProcessor(patch_size=4, merge_size=2, size=PICTURE_SIZE),
    )
    vision = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
    config = AutoConfig.for_model(
        "video_llama_3",
        text_config=ids.text("qwen2"),
        vision_config={"model_type": "video_llama_3_vision", **vision, "patch_size": 4},
        image_token_id=ids["<image>"],
        video_token_id=ids["<video>"],
    )
    return config, processor


def _lfm3_vl(ids: Ids) -> tuple[PreTrainedConfig, ProcessorMixin]:
    processor = qwen.shared_budget(Lfm3VlProcessor, ids)
    vision = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
    config = AutoConfig.for_model(
        "lfm3_vl",
        text_config=ids.text("lfm2", layer_types=["conv", "full_attention"], block_auto_adjust_ff_dim=False),
        vision_config={**vision, "patch_size": 4},
        **qwen.vision_ids(ids),
    )
    return config, processor


MINICPM = Words(
    special=("<|im_start|>",),
    named={
        "image_token": "<|image_pad|>",
        "video_token": "<|video_pad|>",
        "image_start_token": "<image>",
        "image_end_token": "</image>",
        "slice_start_token": "<slice>",
        "slice_end_token": "</slice>",
        "image_id_start_token": "<image_id>",
        "image_id_end_token": "</image_id>",
    },
    pad="<|endoftext|>",
    eos="<|im_end|>",
)
MINICPM_VISION: dict[str, Any] = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 3,
    "num_attention_heads": 2,
    "image_size": 48,
    "patch_size": 4,
}


def _minicpm(ids: Ids) -> tuple[PreTrainedConfig, ProcessorMixin]:
    sizes = {"patch_size": 4, "scale_resolution": 48, "max_slice_nums": 2}
    processor = MiniCPMV4_6Processor(
        image_processor=MiniCPMV4_6ImageProcessor(**sizes),
        tokenizer=ids.tokenizer,
        video_processor=MiniCPMV4_6VideoProcessor(**{**sizes, "max_slice_nums": 1}),
    )
    config = AutoConfig.for_model(
        "minicpmv4_6",
        text_config=ids.text("qwen3_5_text", rope_parameters=THREE, **LINEAR),
        vision_config=MINICPM_VISION,
        insert_layer_id=1,
        image_size=48,
        image_token_id=ids["<|image_pad|>"],
        video_token_id=ids["<|video_pad|>"],
    )
    return config, processor


def _minicpmv4_7(ids: Ids) -> tuple[PreTrainedConfig, ProcessorMixin]:
    sizes = {"patch_size": 4, "scale_resolution": 48, "max_slice_nums": 2}
    processor = MiniCPMV4_7Processor(
        image_processor=MiniCPMV4_6ImageProcessor(**sizes),
        tokenizer=ids.tokenizer,
        video_processor=MiniCPMV4_6VideoProcessor(**{**sizes, "max_slice_nums": 1}),
    )
    config = AutoConfig.for_model(
        "minicpmv4_7",
        text_config=ids.text("qwen3_5_text", rope_parameters=THREE, **LINEAR),
        vision_config=MINICPM_VISION,
        insert_layer_id=1,
        image_token_id=ids["<|image_pad|>"],
        video_token_id=ids["<|video_pad|>"],
        image_start_id=ids["<image>"],
        image_end_id=ids["</image>"],
        slice_start_id=ids["<slice>"],
        slice_end_id=ids["</slice>"],
        newline_id=ids["Ċ"],
    )
    return config, processor


_GLM: dict[str, Any] = {
    "words": GLM,
    "chat": GLM_CHAT,
    "takes_video": True,
    "image": "<|begin_of_image|><|image|><|end_of_image|>",
    "video": "<|begin_of_video|><|video|><|end_of_video|>",
}

FAMILY = (
    Kind("glm4v", build=_glm4v, **_GLM),
    Kind("glm46v", build=_glm46v, **_GLM),
    Kind("glm4v_moe", build=_glm4v_moe, **_GLM),
    Kind(
        "exaone4_5",
        words=Words(
            special=("<|system|>", "<|user|>", "<|assistant|>", "<vision>", "</vision>"),
            named={"image_token": "<|image_pad|>", "video_token": "<|video_pad|>"},
            pad="<pad>",
            bos="<bos>",
            eos="<|endofturn|>",
        ),
        chat=chat_template(
            {role: (f"<|{role}|>\n", "<|endofturn|>\n") for role in ("system", "user", "assistant")},
            answer="<|assistant|>\n",
            image="<vision><|image_pad|></vision>",
            video="<vision><|video_pad|></vision>",
        ),
        build=_exaone,
        takes_video=True,
        image="<vision><|image_pad|></vision>",
        video="<vision><|video_pad|></vision>",
    ),
    Kind(
        "ernie4_5_vl_moe",
        words=Words(
            named={
                "image_token": "<|IMAGE_PLACEHOLDER|>",
                "image_start_token": "<|IMAGE_START|>",
                "image_end_token": "<|IMAGE_END|>",
                "video_token": "<|VIDEO_PLACEHOLDER|>",
                "video_start_token": "<|VIDEO_START|>",
                "video_end_token": "<|VIDEO_END|>",
            },
            pad="<unk>",
            unk="<unk>",
            bos="<s>",
        ),
        chat=chat_template(
            {"system": ("", "\n"), "user": ("User: ", "\n"), "assistant": ("Assistant: ", "<|end_of_sentence|>\n")},
            answer="Assistant: ",
            start="<|begin_of_sentence|>",
            image="Picture 1:<|IMAGE_START|><|IMAGE_PLACEHOLDER|><|IMAGE_END|>",
            video="Video 1:<|VIDEO_START|><|VIDEO_PLACEHOLDER|><|VIDEO_END|>",
        ),
        build=_ernie,
        takes_video=True,
        image="<|IMAGE_START|><|IMAGE_PLACEHOLDER|><|IMAGE_END|>",
        video="<|VIDEO_START|><|VIDEO_PLACEHOLDER|><|VIDEO_END|>",
    ),
    Kind(
        "video_llama_3",
        words=Words(
            special=("<|im_start|>",),
            named={"image_token": "<image>", "video_token": "<video>"},
            pad="<|endoftext|>",
            eos="<|im_end|>",
        ),
        chat=chatml(image="<image>\n", video="<video>\n", system=QWEN_SYSTEM),
        build=_video_llama_3,
        takes_video=True,
    ),
    Kind(
        "lfm3_vl",
        words=Words(
            special=("<|im_start|>",), named=qwen.MARKS, pad="<|pad|>", bos="<|startoftext|>", eos="<|im_end|>"
        ),
        chat=chatml(image=qwen.IMAGE, video=qwen.VIDEO, start="{{ bos_token }}"),
        build=_lfm3_vl,
        takes_video=True,
        image=qwen.IMAGE,
        video=qwen.VIDEO,
    ),
    Kind(
        "minicpmv4_6",
        words=MINICPM,
        chat=chatml(image="<|image_pad|>\n", video="<|video_pad|>\n"),
        build=_minicpm,
        takes_video=True,
        image="<|image_pad|>",
        video="<|video_pad|>",
    ),
    Kind(
        "minicpmv4_7",
        words=MINICPM,
        chat=chatml(image="<|image_pad|>\n", video="<|video_pad|>\n"),
        build=_minicpmv4_7,
        takes_video=True,
        image="<|image_pad|>",
        video="<|video_pad|>",
    ),
)
