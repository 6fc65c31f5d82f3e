"""Families with a way of their own to the picture: Llama 3.2 and 4, Aria, DeepSeek-VL and Phi-4."""

from __future__ import annotations

from typing import Any

from transformers import (
    AriaImageProcessor,
    AriaProcessor,
    AutoConfig,
    DeepseekVLImageProcessor,
    DeepseekVLProcessor,
    Llama4ImageProcessor,
    Llama4Processor,
    MllamaImageProcessor,
    MllamaProcessor,
    Phi4MultimodalFeatureExtractor,
    Phi4MultimodalImageProcessor,
    Phi4MultimodalProcessor,
    PreTrainedConfig,
    ProcessorMixin,
)

from tests.support.vlm.chats import chat_template, chatml
from tests.support.vlm.idefics import VISION
from tests.support.vlm.kinds import Ids, Kind, Words
from tests.support.vlm.llava import SIDE, SQUARE, siglip_tower
from tests.support.vlm.tiles import LLAMA3_ANSWER, LLAMA3_SPECIAL, LLAMA3_TURNS


def _mllama(ids: Ids) -> tuple[PreTrainedConfig, ProcessorMixin]:
    processor = MllamaProcessor(
        image_processor=MllamaImageProcessor(size=SQUARE, max_image_tiles=4), tokenizer=ids.tokenizer
    )
    text = ids.text("mllama_text_model", num_hidden_layers=3, cross_attention_layers=[1])
    # The embedding has eight rows that the head has not, the picture's token is the first of them.
    text["vocab_size"] = ids["<|image|>"]
    config = AutoConfig.for_model(
        "mllama",
        text_config=text,
        vision_config={
            "hidden_size": 32,
            "intermediate_size": 64,
            "num_hidden_layers": 2,
            "num_global_layers": 1,
            "attention_heads": 2,
            "vision_output_dim": 64,
            "intermediate_layers_indices": [0],
            "image_size": SIDE,
            "patch_size": 8,
        },
        image_token_index=ids["<|image|>"],
    )
    return config, processor


def _llama4(ids: Ids) -> tuple[PreTrainedConfig, ProcessorMixin]:
    processor = Llama4Processor(
        image_processor=Llama4ImageProcessor(size=SQUARE, max_patches=2),
        tokenizer=ids.tokenizer,
        patch_size=8,
        pixel_shuffle_ratio=0.5,
    )
    text = ids.text(
        "llama4_text",
        head_dim=8,
        intermediate_size_mlp=64,
        num_local_experts=4,
        interleave_moe_layer_step=2,
        no_rope_layers=[1, 0],
        attention_chunk_size=32,
    )
    config = AutoConfig.for_model(
        "llama4",
        text_config=text,
        vision_config={
            "hidden_size": 32,
            "intermediate_size": 128,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "vision_output_dim": 64,
            "projector_input_dim": 64,
            "projector_output_dim": 64,
            "image_size": SIDE,
            "patch_size": 8,
        },
        boi_token_index=ids["<|image_start|>"],
        eoi_token_index=ids["<|image_end|>"],
        image_token_index=ids["<|patch|>"],
    )
    return config, processor


def _aria(ids: Ids) -> tuple[PreTrainedConfig, ProcessorMixin]:
    # Its processor knows pictures of 490 and 980 pixels alone: 49 patches with this patch size.
    processor = AriaProcessor(
        image_processor=AriaImageProcessor(max_image_size=490),
        tokenizer=ids.tokenizer,
        size_conversion={490: 4, 980: 8},
    )
    config = AutoConfig.for_model(
        "aria",
        text_config=ids.text("aria_text", moe_num_experts=4, moe_topk=2, moe_num_shared_experts=1),
        vision_config={"model_type": "idefics3_vision", **VISION, "image_size": 980, "patch_size": 70},
        projector_patch_to_query_dict={49: 4, 196: 8},
        image_token_index=ids["<|img|>"],
    )
    return config, processor


def _deepseek_vl(ids: Ids) -> tuple[PreTrainedConfig, ProcessorMixin]:
    processor = DeepseekVLProcessor(
        image_processor=DeepseekVLImageProcessor(size=SQUARE), tokenizer=ids.tokenizer, num_image_tokens=16
    )
    config = AutoConfig.for_model(
        "deepseek_vl",
        text_config=ids.text("llama"),
        vision_config=siglip_tower(),
        image_token_id=ids["<image_placeholder>"],
    )
    return config, processor


def _phi4(ids: Ids) -> tuple[PreTrainedConfig, ProcessorMixin]:
    # Its processor counts 256 tokens for the whole picture: 32 x 32 patches, whatever their size.
    processor = Phi4MultimodalProcessor(
        image_processor=Phi4MultimodalImageProcessor(size={"height": 64, "width": 64}, patch_size=2, dynamic_hd=2),
        audio_processor=Phi4MultimodalFeatureExtractor(),
        tokenizer=ids.tokenizer,
    )
    text: dict[str, Any] = ids.text("phi4_multimodal")
    del text["model_type"]
    config = AutoConfig.for_model(
        "phi4_multimodal",
        **text,
        vision_config={
            "hidden_size": 32,
            "intermediate_size": 64,
            "num_hidden_layers": 3,
            "num_attention_heads": 2,
            "image_size": 64,
            "crop_size": 64,
            "patch_size": 2,
            "image_token_id": ids["<|image|>"],
        },
        audio_config={
            "hidden_size": 32,
            "intermediate_size": 32,
            "num_blocks": 2,
            "num_attention_heads": 2,
            "ext_pw_out_channel": 32,
            "depthwise_separable_out_channel": 32,
            "nemo_conv_channels": 16,
            "audio_token_id": ids["<|audio|>"],
        },
    )
    return config, processor


FAMILY = (
    Kind(
        "mllama",
        words=Words(
            special=(*LLAMA3_SPECIAL, "<|python_tag|>"),
            pad="<|finetune_right_pad_id|>",
            bos="<|begin_of_text|>",
            eos="<|eot_id|>",
            opens=True,
            last=("<|image|>",),
        ),
        chat=chat_template(LLAMA3_TURNS, answer=LLAMA3_ANSWER, start="{{ bos_token }}", image="<|image|>"),
        build=_mllama,
        image="<|image|>",
    ),
    Kind(
        "llama4",
        words=Words(
            special=(
                "<|header_start|>",
                "<|header_end|>",
                "<|image_start|>",
                "<|image_end|>",
                "<|image|>",
                "<|patch|>",
                "<|tile_x_separator|>",
                "<|tile_y_separator|>",
            ),
            pad="<|finetune_right_pad|>",
            bos="<|begin_of_text|>",
            eos="<|eot|>",
            opens=True,
        ),
        chat=chat_template(
            {
                role: (f"<|header_start|>{role}<|header_end|>\n\n", "<|eot|>")
                for role in ("system", "user", "assistant")
            },
            answer="<|header_start|>assistant<|header_end|>\n\n",
            start="{{ bos_token }}",
            image="<|image|>",
        ),
        build=_llama4,
        image="<|image|>",
    ),
    Kind(
        "aria",
        words=Words(
            special=("<|im_start|>", "<|im_end|>", "<fim_prefix>", "<fim_suffix>"),
            named={"image_token": "<|img|>"},
            pad="<unk>",
            bos="<s>",
            unk="<unk>",
        ),
        chat=chatml(image="<fim_prefix><|img|><fim_suffix>"),
        build=_aria,
        image="<fim_prefix><|img|><fim_suffix>",
    ),
    Kind(
        "deepseek_vl",
        words=Words(
            named={"image_token": "<image_placeholder>"},
            pad="<|end_of_sentence|>",
            bos="<|begin_of_sentence|>",
            eos="<|end_of_sentence|>",
            opens=True,
        ),
        chat=chat_template(
            {
                "system": ("", "\n\n"),
                "user": ("User: ", "\n\n"),
                "assistant": ("Assistant: ", "<|end_of_sentence|>"),
            },
            answer="Assistant:",
            system="You are a helpful language and vision assistant.\n\n",
            image="<image_placeholder>",
        ),
        build=_deepseek_vl,
        image="<image_placeholder>",
        square=True,
    ),
    Kind(
        "phi4_multimodal",
        words=Words(
            special=("<|system|>", "<|user|>", "<|assistant|>", "<|end|>"),
            named={"image_token": "<|image|>", "audio_token": "<|audio|>"},
            pad="<|endoftext|>",
            bos="<|endoftext|>",
            eos="<|endoftext|>",
        ),
        chat=chat_template(
            {role: (f"<|{role}|>", "<|end|>") for role in ("system", "user", "assistant")},
            answer="<|assistant|>",
            image="<|image|>",
            audio="<|audio|>",
        ),
        build=_phi4,
        takes_audio=True,
        image="<|image|>",
        audio="<|audio|>",
        image_text_to_text=False,
        tokenizer_has_chat=True,
    ),
)
