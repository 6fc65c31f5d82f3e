"""Families that cut a picture in tiles or pool its patches: Aya, Command, Mistral 3, Ovis, LFM, Molmo, PerceptionLM."""

from __future__ import annotations

from typing import Any

from transformers import (
    AutoConfig,
    AyaVisionProcessor,
    Cohere2VisionImageProcessor,
    Cohere2VisionProcessor,
    GotOcr2ImageProcessor,
    Lfm2VlImageProcessor,
    Lfm2VlProcessor,
    Molmo2ImageProcessor,
    Molmo2Processor,
    Molmo2VideoProcessor,
    Ovis2ImageProcessor,
    Ovis2Processor,
    PerceptionLMImageProcessor,
    PerceptionLMProcessor,
    PerceptionLMVideoProcessor,
    PixtralImageProcessor,
    PixtralProcessor,
    PreTrainedConfig,
    ProcessorMixin,
)

from tests.support.vlm.chats import QWEN_SYSTEM, chat_template, chatml
from tests.support.vlm.kinds import Ids, Kind, Words
from tests.support.vlm.llava import SIDE, SQUARE, siglip_tower

COHERE_TURNS = {
    role: (f"<|START_OF_TURN_TOKEN|><|{name}_TOKEN|>", "<|END_OF_TURN_TOKEN|>")
    for role, name in (("system", "SYSTEM"), ("user", "USER"), ("assistant", "CHATBOT"))
}
COHERE_SPECIAL = (
    "<|START_OF_TURN_TOKEN|>",
    "<|SYSTEM_TOKEN|>",
    "<|USER_TOKEN|>",
    "<|CHATBOT_TOKEN|>",
    "<|IMG_LINE_BREAK|>",
    "TILE",
    "TILE_GLOBAL",
)
SLIDING: dict[str, Any] = {"layer_types": ["sliding_attention", "full_attention"], "sliding_window": 16}


def _aya_vision(ids: Ids) -> tuple[PreTrainedConfig, ProcessorMixin]:
    processor = AyaVisionProcessor(
        image_processor=GotOcr2ImageProcessor(size=SQUARE, crop_to_patches=True, min_patches=1, max_patches=2),
        tokenizer=ids.tokenizer,
        patch_size=8,
        img_size=SIDE,
        downsample_factor=2,
    )
    config = AutoConfig.for_model(
        "aya_vision",
        text_config=ids.text("cohere2", head_dim=8, **SLIDING),
        vision_config=siglip_tower(),
        image_token_index=ids["<|IMG_PATCH|>"],
    )
    return config, processor


def _cohere2_vision(ids: Ids) -> tuple[PreTrainedConfig, ProcessorMixin]:
    # Its `patch_size` is the side of a tile in tokens.
    images = Cohere2VisionImageProcessor(size=SQUARE, patch_size=2, max_patches=2)
    processor = Cohere2VisionProcessor(image_processor=images, tokenizer=ids.tokenizer)
    config = AutoConfig.for_model(
        "cohere2_vision",
        text_config=ids.text("cohere2", head_dim=8, **SLIDING),
        vision_config=siglip_tower(),
        image_token_id=ids["<|IMG_PATCH|>"],
        alignment_intermediate_size=64,
    )
    return config, processor


def _mistral3(ids: Ids) -> tuple[PreTrainedConfig, ProcessorMixin]:
    processor = PixtralProcessor(
        image_processor=PixtralImageProcessor(size={"longest_edge": 64}, patch_size={"height": 8, "width": 8}),
        tokenizer=ids.tokenizer,
        patch_size=8,
        spatial_merge_size=2,
    )
    vision = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
    config = AutoConfig.for_model(
        "mistral3",
        text_config=ids.text("mistral", head_dim=8),
        vision_config={"model_type": "pixtral", **vision, "head_dim": 16, "image_size": 64, "patch_size": 8},
        image_token_index=ids["[IMG]"],
    )
    return config, processor


def _ovis2(ids: Ids) -> tuple[PreTrainedConfig, ProcessorMixin]:
    processor = Ovis2Processor(
        image_processor=Ovis2ImageProcessor(size=SQUARE, crop_to_patches=True, max_patches=2),
        tokenizer=ids.tokenizer,
        image_seq_length=4,
    )
    vision = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
    config = AutoConfig.for_model(
        "ovis2",
        text_config=ids.text("qwen2"),
        vision_config={**vision, "image_size": SIDE, "patch_size": 8, "hidden_stride": 2, "vocab_size": 24},
        image_token_id=ids["<IMG_ATOM>"],
        visual_indicator_token_ids=[ids[token] for token in OVIS_MARKS],
        vocab_size=ids.rows,
        hidden_size=32,
    )
    return config, processor


OVIS_MARKS = ("<IMG_START>", "<IMG_GRID>", "<IMG_COL>", "<IMG_ROW>", "<IMG_END>")


def _lfm2_vl(ids: Ids) -> tuple[PreTrainedConfig, ProcessorMixin]:
    processor = Lfm2VlProcessor(
        image_processor=Lfm2VlImageProcessor(
            encoder_patch_size=8,
            tile_size=SIDE,
            min_tiles=2,
            max_tiles=4,
            min_image_tokens=2,
            max_image_tokens=12,
            size=SQUARE,
        ),
        tokenizer=ids.tokenizer,
    )
    vision = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
    config = AutoConfig.for_model(
        "lfm2_vl",
        text_config=ids.text("lfm2", layer_types=["conv", "full_attention"], block_auto_adjust_ff_dim=False),
        vision_config={"model_type": "siglip2_vision_model", **vision, "patch_size": 8, "num_patches": 16},
        image_token_id=ids["<image>"],
        projector_hidden_size=32,
    )
    return config, processor


def _molmo2(ids: Ids) -> tuple[PreTrainedConfig, ProcessorMixin]:
    processor = Molmo2Processor(
        image_processor=Molmo2ImageProcessor(size=SQUARE, max_crops=2, overlap_margins=[1, 1], patch_size=8),
        tokenizer=ids.tokenizer,
        video_processor=Molmo2VideoProcessor(size=SQUARE, patch_size=8, pooling_size=[2, 2]),
    )
    heads = {"num_attention_heads": 2, "num_key_value_heads": 2, "head_dim": 16}
    vision = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 3, **heads}
    config = AutoConfig.for_model(
        "molmo2",
        text_config=ids.text("molmo2_text", head_dim=8, additional_vocab_size=8, rope_scaling_layers=[0, 1]),
        vision_config={**vision, "image_size": [SIDE, SIDE], "patch_size": 8, "num_position_embeddings": 16},
        adapter_config={
            "vision_feature_layer": [2, 1],
            "hidden_size": 32,
            **heads,
            "intermediate_size": 64,
            "text_hidden_size": 32,
        },
        image_start_token_id=ids["<im_start>"],
        low_res_image_start_token_id=ids["<low_res_im_start>"],
        image_end_token_id=ids["<im_end>"],
        image_patch_id=ids["<im_patch>"],
        frame_start_token_id=ids["<frame_start>"],
        frame_end_token_id=ids["<frame_end>"],
    )
    return config, processor


MOLMO_MARKS = (
    "<im_start>",
    "<low_res_im_start>",
    "<im_end>",
    "<im_patch>",
    "<im_col>",
    "<im_low>",
    "<frame_start>",
    "<frame_end>",
)


def _perception_lm(ids: Ids) -> tuple[PreTrainedConfig, ProcessorMixin]:
    size = {"height": 56, "width": 56}
    processor = PerceptionLMProcessor(
        image_processor=PerceptionLMImageProcessor(tile_size=56, max_num_tiles=2, size=size),
        tokenizer=ids.tokenizer,
        video_processor=PerceptionLMVideoProcessor(size=size),
        patch_size=14,
        pooling_ratio=2,
    )
    sizes = {"embed_dim": 32, "img_size": [56, 56], "depth": 2, "num_heads": 2, "ref_feat_shape": [4, 4]}
    config = AutoConfig.for_model(
        "perception_lm",
        text_config=ids.text("llama"),
        vision_config={
            "model_type": "timm_wrapper",
            "architecture": "vit_pe_core_large_patch14_336",
            "do_pooling": False,
            "num_classes": 0,
            "global_pool": "map",
            "initializer_range": 0.02,
            "model_args": {**sizes, "global_pool": "", "use_post_transformer_norm": False, "init_values": 0.1},
        },
        vision_use_cls_token=True,
        projector_pooling_ratio=2,
        image_token_id=ids["<|image|>"],
        video_token_id=ids["<|video|>"],
    )
    return config, processor


LLAMA3_TURNS = {
    role: (f"<|start_header_id|>{role}<|end_header_id|>\n\n", "<|eot_id|>") for role in ("system", "user", "assistant")
}
LLAMA3_ANSWER = "<|start_header_id|>assistant<|end_header_id|>\n\n"
LLAMA3_SPECIAL = ("<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>")

FAMILY = (
    Kind(
        "aya_vision",
        words=Words(
            special=(*COHERE_SPECIAL, "<image>", "<|START_OF_IMG|>", "<|END_OF_IMG|>", "<|IMG_PATCH|>"),
            pad="<PAD>",
            bos="<BOS_TOKEN>",
            eos="<|END_OF_TURN_TOKEN|>",
            opens=True,
        ),
        chat=chat_template(
            COHERE_TURNS,
            answer="<|START_OF_TURN_TOKEN|><|CHATBOT_TOKEN|>",
            start="{{ bos_token }}",
            image="<image>",
        ),
        build=_aya_vision,
        square=True,
    ),
    Kind(
        "cohere2_vision",
        words=Words(
            special=COHERE_SPECIAL[:4],
            named={
                "image_token": "<|IMG_PATCH|>",
                "boi_token": "<|START_OF_IMG|>",
                "eoi_token": "<|END_OF_IMG|>",
                "img_line_break_token": "<|IMG_LINE_BREAK|>",
            },
            pad="<PAD>",
            bos="<BOS_TOKEN>",
            eos="<|END_OF_TURN_TOKEN|>",
            opens=True,
        ),
        chat=chat_template(
            COHERE_TURNS,
            answer="<|START_OF_TURN_TOKEN|><|CHATBOT_TOKEN|>",
            start="{{ bos_token }}",
            image="<|IMG_PATCH|>",
        ),
        build=_cohere2_vision,
        square=True,
        image="<|IMG_PATCH|>",
    ),
    Kind(
        "mistral3",
        words=Words(
            special=("[INST]", "[/INST]", "[SYSTEM_PROMPT]", "[/SYSTEM_PROMPT]", "[IMG]", "[IMG_BREAK]", "[IMG_END]"),
            bos="<s>",
            unk="<unk>",
            opens=True,
        ),
        chat=chat_template(
            {
                "system": ("[SYSTEM_PROMPT]", "[/SYSTEM_PROMPT]"),
                "user": ("[INST]", "[/INST]"),
                "assistant": ("", "{{ eos_token }}"),
            },
            answer="",
            start="{{ bos_token }}",
            image="[IMG]",
        ),
        build=_mistral3,
        image="[IMG]",
    ),
    Kind(
        "ovis2",
        words=Words(
            special=("<|im_start|>", "<image>", "<IMG_ATOM>", *OVIS_MARKS), pad="<|endoftext|>", eos="<|im_end|>"
        ),
        chat=chatml(image="<image>\n", system=QWEN_SYSTEM),
        build=_ovis2,
    ),
    Kind(
        "lfm2_vl",
        words=Words(
            special=("<|im_start|>", *(f"<|img_row_{row}_col_{column}|>" for row in (1, 2) for column in (1, 2))),
            named={
                "image_token": "<image>",
                "image_start_token": "<|image_start|>",
                "image_end_token": "<|image_end|>",
                "image_thumbnail_token": "<|img_thumbnail|>",
            },
            pad="<|pad|>",
            bos="<|startoftext|>",
            eos="<|im_end|>",
            opens=True,
        ),
        chat=chatml(image="<image>", start="{{ bos_token }}"),
        build=_lfm2_vl,
    ),
    Kind(
        "molmo2",
        words=Words(
            special=("<|im_start|>", *MOLMO_MARKS),
            named={"image_token": "<|image|>", "video_token": "<|video|>"},
            pad="<|endoftext|>",
            bos="<|im_end|>",
            eos="<|im_end|>",
        ),
        chat=chatml(image="<|image|>", video="<|video|>"),
        build=_molmo2,
        takes_video=True,
        image="<|image|>",
        video="<|video|>",
    ),
    Kind(
        "perception_lm",
        words=Words(
            special=LLAMA3_SPECIAL,
            named={"image_token": "<|image|>", "video_token": "<|video|>"},
            pad="<|end_of_text|>",
            bos="<|begin_of_text|>",
            eos="<|eot_id|>",
            opens=True,
        ),
        chat=chat_template(
            LLAMA3_TURNS, answer=LLAMA3_ANSWER, start="{{ bos_token }}", image="<|image|>", video="<|video|>"
        ),
        build=_perception_lm,
        square=True,
        takes_video=True,
        image="<|image|>",
        video="<|video|>",
    ),
)
