"""Families of Idefics: pictures cut in tiles, which the prompt names by row and column."""

from __future__ import annotations

from transformers import (
    AutoConfig,
    Idefics2ImageProcessor,
    Idefics2Processor,
    Idefics3ImageProcessor,
    Idefics3Processor,
    PreTrainedConfig,
    ProcessorMixin,
    SmolVLMImageProcessor,
    SmolVLMProcessor,
    SmolVLMVideoProcessor,
)

from tests.support.vlm.kinds import Ids, Kind, Words

CHAT = (
    "{% for message in messages %}{{ message['role'] | capitalize }}"
    "{% if message['content'][0]['type'] == 'image' %}{{ ':' }}{% else %}{{ ': ' }}{% endif %}"
    "{% for line in message['content'] %}{% if line['type'] == 'text' %}{{ line['text'] }}"
    "{% elif line['type'] == 'image' %}{{ '<image>' }}"
    "{% elif line['type'] == 'video' %}{{ '<video>' }}{% endif %}{% endfor %}<end_of_utterance>\n{% endfor %}"
    "{% if add_generation_prompt %}{{ 'Assistant:' }}{% endif %}"
)
GRID = tuple(f"<row_{row}_col_{column}>" for row in range(1, 7) for column in range(1, 7))
VISION = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "image_size": 32,
    "patch_size": 8,
}


def _smolvlm(ids: Ids) -> tuple[PreTrainedConfig, ProcessorMixin]:
    sizes = {"size": {"longest_edge": 64}, "max_image_size": {"longest_edge": 32}}
    processor = SmolVLMProcessor(
        image_processor=SmolVLMImageProcessor(**sizes),
        tokenizer=ids.tokenizer,
        video_processor=SmolVLMVideoProcessor(
            size={"longest_edge": 32}, max_image_size={"longest_edge": 32}, num_frames=4, fps=2
        ),
        image_seq_len=4,
    )
    config = AutoConfig.for_model(
        "smolvlm",
        text_config=ids.text("llama"),
        vision_config={"model_type": "smolvlm_vision", **VISION},
        image_token_id=ids["<image>"],
        scale_factor=2,
        **ids.ends,
    )
    return config, processor


def _idefics3(ids: Ids) -> tuple[PreTrainedConfig, ProcessorMixin]:
    processor = Idefics3Processor(
        image_processor=Idefics3ImageProcessor(size={"longest_edge": 64}, max_image_size={"longest_edge": 32}),
        tokenizer=ids.tokenizer,
        image_seq_len=4,
    )
    config = AutoConfig.for_model(
        "idefics3",
        text_config=ids.text("llama"),
        vision_config={"model_type": "idefics3_vision", **VISION},
        image_token_id=ids["<image>"],
        scale_factor=2,
        **ids.ends,
    )
    return config, processor


def _idefics2(ids: Ids) -> tuple[PreTrainedConfig, ProcessorMixin]:
    processor = Idefics2Processor(
        image_processor=Idefics2ImageProcessor(
            size={"shortest_edge": 16, "longest_edge": 48}, do_image_splitting=False
        ),
        tokenizer=ids.tokenizer,
        image_seq_len=4,
    )
    config = AutoConfig.for_model(
        "idefics2",
        text_config=ids.text("mistral", head_dim=8),
        vision_config={**VISION, "image_size": 48},
        perceiver_config={
            "hidden_size": 32,
            "resampler_n_latents": 4,
            "resampler_depth": 2,
            "resampler_n_heads": 4,
            "resampler_head_dim": 8,
            "num_key_value_heads": 2,
        },
        image_token_id=ids["<image>"],
        **ids.ends,
    )
    return config, processor


FAMILY = (
    Kind(
        "idefics2",
        words=Words(
            special=("<end_of_utterance>",),
            named={"image_token": "<image>", "image_boundary_token": "<fake_token_around_image>"},
            pad="<unk>",
            bos="<s>",
            unk="<unk>",
            opens=True,
        ),
        chat=CHAT,
        build=_idefics2,
    ),
    Kind(
        "idefics3",
        words=Words(
            special=("<global-img>", *GRID, "<fake_token_around_image>", "<image>"),
            pad="<|finetune_right_pad_id|>",
            bos="<|begin_of_text|>",
            eos="<end_of_utterance>",
            opens=True,
        ),
        chat="<|begin_of_text|>" + CHAT,
        build=_idefics3,
    ),
    Kind(
        "smolvlm",
        words=Words(
            special=("<|im_start|>", "<global-img>", *GRID, "<video>"),
            named={
                "fake_image_token": "<fake_token_around_image>",
                "image_token": "<image>",
                "end_of_utterance_token": "<end_of_utterance>",
                "global_image_token": "<global-img>",
            },
            pad="<|im_end|>",
            bos="<|im_start|>",
            eos="<end_of_utterance>",
            unk="<|endoftext|>",
        ),
        chat="<|im_start|>" + CHAT,
        build=_smolvlm,
        takes_video=True,
    ),
)
