"""Families on Gemma: embeddings scaled by the root of their width, pictures that attend in both directions."""

from __future__ import annotations

from transformers import AutoConfig, Gemma3ImageProcessor, Gemma3Processor, PreTrainedConfig, ProcessorMixin

from tests.support.vlm.chats import chat_template
from tests.support.vlm.kinds import Ids, Kind, Words
from tests.support.vlm.llava import SIDE, siglip_tower

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
LAYERS = {"head_dim": 8, "layer_types": ["sliding_attention", "full_attention"], "sliding_window": 16}


def _gemma3(ids: Ids) -> tuple[PreTrainedConfig, ProcessorMixin]:
    processor = Gemma3Processor(
        image_processor=Gemma3ImageProcessor(size={"height": SIDE, "width": SIDE}),
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


FAMILY = (
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
