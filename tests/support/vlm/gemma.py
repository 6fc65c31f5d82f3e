"""Families on Gemma: embeddings scaled by the root of their width, pictures that attend in both directions."""

from __future__ import annotations

from typing import Any

from transformers import (
    AutoConfig,
    Gemma3ImageProcessor,
    Gemma3nAudioFeatureExtractor,
    Gemma3nProcessor,
    Gemma3Processor,
    Gemma4AudioFeatureExtractor,
    Gemma4ImageProcessor,
    Gemma4Processor,
    Gemma4VideoProcessor,
    PaliGemmaProcessor,
    PreTrainedConfig,
    ProcessorMixin,
    SiglipImageProcessor,
)

from tests.support.vlm.chats import chat_template
from tests.support.vlm.kinds import Ids, Kind, Words
from tests.support.vlm.llava import SQUARE, siglip_tower

IMAGE_MARKS = {"boi_token": "<start_of_image>", "eoi_token": "<end_of_image>", "image_token": "<image_soft_token>"}
GEMMA = Words(
    special=("<start_of_turn>", "<end_of_turn>"),
    named=IMAGE_MARKS,
    eos="<eos>",
    bos="<bos>",
    unk="<unk>",
    opens=True,
)
TURNS = {
    "user": ("<start_of_turn>user\n", "<end_of_turn>\n"),
    "assistant": ("<start_of_turn>model\n", "<end_of_turn>\n"),
}
LAYERS: dict[str, Any] = {"head_dim": 8, "layer_types": ["sliding_attention", "full_attention"], "sliding_window": 16}


def _gemma3(ids: Ids) -> tuple[PreTrainedConfig, ProcessorMixin]:
    processor = Gemma3Processor(
        image_processor=Gemma3ImageProcessor(size=SQUARE),
        tokenizer=ids.tokenizer,
        image_seq_length=4,
    )
    config = AutoConfig.for_model(
        "gemma3",
        text_config=ids.text("gemma3_text", **LAYERS),
        vision_config=siglip_tower(),
        mm_tokens_per_image=4,
        image_token_index=ids["<image_soft_token>"],
        boi_token_index=ids["<start_of_image>"],
        eoi_token_index=ids["<end_of_image>"],
        eos_token_id=[ids["<eos>"], ids["<end_of_turn>"]],
    )
    return config, processor


def _paligemma(ids: Ids) -> tuple[PreTrainedConfig, ProcessorMixin]:
    images = SiglipImageProcessor(size=SQUARE)
    images.image_seq_length = 16
    processor = PaliGemmaProcessor(image_processor=images, tokenizer=ids.tokenizer)  # adds 1152 tokens of places
    config = AutoConfig.for_model(
        "paligemma",
        text_config=ids.text("gemma", head_dim=8),
        vision_config=siglip_tower(),
        image_token_index=ids["<image>"],
        projection_dim=32,
        hidden_size=32,
        vocab_size=ids.rows,
        **ids.ends,
    )
    return config, processor


def _gemma4(ids: Ids) -> tuple[PreTrainedConfig, ProcessorMixin]:
    # 70 tokens for a picture are the fewest its processors allow.
    patches: dict[str, Any] = {"patch_size": 4, "pooling_kernel_size": 2, "max_soft_tokens": 70}
    processor = Gemma4Processor(
        feature_extractor=Gemma4AudioFeatureExtractor(feature_size=16),
        image_processor=Gemma4ImageProcessor(**patches),
        tokenizer=ids.tokenizer,
        video_processor=Gemma4VideoProcessor(**patches, num_frames=4),
        image_seq_length=70,
    )
    text = ids.text(
        "gemma4_text",
        num_hidden_layers=4,
        head_dim=8,
        global_head_dim=8,
        layer_types=["sliding_attention", "full_attention"] * 2,
        sliding_window=16,
        vocab_size_per_layer_input=ids.rows,
        hidden_size_per_layer_input=8,
        num_kv_shared_layers=2,
    )
    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
    config = AutoConfig.for_model(
        "gemma4",
        text_config=text,
        vision_config={
            **sizes,
            "num_key_value_heads": 2,
            "head_dim": 16,
            "patch_size": 4,
            "pooling_kernel_size": 2,
            "position_embedding_size": 64,
        },
        audio_config={
            "hidden_size": 32,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "subsampling_conv_channels": [16, 8],
            "output_proj_dims": 32,
        },
        boi_token_id=ids["<|image>"],
        eoi_token_id=ids["<image|>"],
        image_token_id=ids["<|image|>"],
        video_token_id=ids["<|video|>"],
        boa_token_id=ids["<|audio>"],
        eoa_token_index=ids["<audio|>"],
        audio_token_id=ids["<|audio|>"],
    )
    return config, processor


def _gemma3n(ids: Ids) -> tuple[PreTrainedConfig, ProcessorMixin]:
    processor = Gemma3nProcessor(
        feature_extractor=Gemma3nAudioFeatureExtractor(feature_size=16),
        image_processor=SiglipImageProcessor(size={"height": 128, "width": 128}),
        tokenizer=ids.tokenizer,
        audio_seq_length=188,
        image_seq_length=16,
    )
    rows = ids.rows
    text = ids.text(
        "gemma3n_text",
        vocab_size=rows + 16,
        num_hidden_layers=4,
        head_dim=8,
        layer_types=["sliding_attention", "full_attention"] * 2,
        sliding_window=16,
        vocab_size_per_layer_input=rows,
        hidden_size_per_layer_input=8,
        num_kv_shared_layers=2,
        laurel_rank=4,
        altup_num_inputs=2,
        activation_sparsity_pattern=[0.5, 0.0, 0.0, 0.0],
    )
    config = AutoConfig.for_model(
        "gemma3n",
        text_config=text,
        vision_config={
            "architecture": "mobilenetv5_300m_enc",
            "model_args": {"channel_multiplier": 0.02, "msfa_output_resolution": 4},
            "hidden_size": 2048,
            "vocab_size": 8,
            "vocab_offset": rows,
        },
        audio_config={
            "vocab_size": 8,
            "vocab_offset": rows + 8,
            "input_feat_size": 16,
            "hidden_size": 32,
            "conf_num_attention_heads": 2,
            "conf_num_hidden_layers": 2,
            "sscp_conv_channel_size": [8, 4],
        },
        vision_soft_tokens_per_image=16,
        audio_soft_tokens_per_image=188,
        boi_token_id=ids["<start_of_image>"],
        eoi_token_id=ids["<end_of_image>"],
        image_token_id=ids["<image_soft_token>"],
        boa_token_id=ids["<start_of_audio>"],
        eoa_token_id=ids["<end_of_audio>"],
        audio_token_id=ids["<audio_soft_token>"],
    )
    return config, processor


FAMILY = (
    Kind(
        "paligemma",
        words=Words(special=("<image>",), eos="<eos>", bos="<bos>", unk="<unk>"),
        chat=None,
        build=_paligemma,
        text_alone=False,
        square=True,
    ),
    Kind(
        "gemma4",
        words=Words(
            special=("<|turn>", "<turn|>", "<|video|>"),
            named={
                "boi_token": "<|image>",
                "eoi_token": "<image|>",
                "image_token": "<|image|>",
                "boa_token": "<|audio>",
                "eoa_token": "<audio|>",
                "audio_token": "<|audio|>",
            },
            eos="<eos>",
            bos="<bos>",
            unk="<unk>",
            opens=True,
        ),
        chat=chat_template(
            {
                role: (f"<|turn>{name}\n", "<turn|>\n")
                for role, name in (("system", "system"), ("user", "user"), ("assistant", "model"))
            },
            answer="<|turn>model\n",
            start="{{ bos_token }}",
            image="\n\n<|image|>\n\n",
            video="\n\n<|video|>\n\n",
            audio="<|audio|>",
            text="{{ part['text'] | trim }}",
        ),
        build=_gemma4,
        takes_video=True,
        takes_audio=True,
        image="<|image|>",
        video="<|video|>",
        audio="<|audio|>",
    ),
    Kind(
        "gemma3n",
        words=Words(
            special=GEMMA.special,
            named={
                **IMAGE_MARKS,
                "boa_token": "<start_of_audio>",
                "eoa_token": "<end_of_audio>",
                "audio_token": "<audio_soft_token>",
            },
            eos="<eos>",
            bos="<bos>",
            unk="<unk>",
            opens=True,
        ),
        chat=chat_template(
            TURNS,
            answer="<start_of_turn>model\n",
            start="{{ bos_token }}",
            image="<image_soft_token>",
            audio="<audio_soft_token>",
            text="{{ part['text'] | trim }}",
        ),
        build=_gemma3n,
        takes_audio=True,
        image="<image_soft_token>",
        audio="<audio_soft_token>",
        square=True,
    ),
    Kind(
        "gemma3",
        words=GEMMA,
        chat=chat_template(
            TURNS,
            answer="<start_of_turn>model\n",
            start="{{ bos_token }}",
            image="<start_of_image>",
            text="{{ part['text'] | trim }}",
        ),
        build=_gemma3,
        image="<start_of_image>",
        square=True,
    ),
)
