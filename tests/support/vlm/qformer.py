"""Families with a Q-Former between picture and language model: BLIP-2 and InstructBLIP."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from transformers import (
    AutoConfig,
    AutoTokenizer,
    Blip2Processor,
    BlipImageProcessor,
    InstructBlipProcessor,
    InstructBlipVideoProcessor,
    InstructBlipVideoVideoProcessor,
    PreTrainedConfig,
    PreTrainedTokenizerBase,
    ProcessorMixin,
)

from tests.support.tokenizers import save_tokenizer
from tests.support.vlm.kinds import Ids, Kind, Words
from tests.support.vlm.llava import SIDE, SQUARE

QUERIES = 4
SIZES: dict[str, Any] = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}


def _config(ids: Ids, kind: str, placeholder: dict[str, int], *, words: int = 64) -> PreTrainedConfig:
    return AutoConfig.for_model(
        kind,
        vision_config={**SIZES, "image_size": SIDE, "patch_size": 8},
        qformer_config={**SIZES, "vocab_size": words, "encoder_hidden_size": 32, "cross_attention_frequency": 2},
        text_config={**ids.text("opt", ffn_dim=64), "word_embed_proj_dim": 32},
        num_query_tokens=QUERIES,
        **placeholder,
    )


def _qformer_tokenizer() -> PreTrainedTokenizerBase:
    with tempfile.TemporaryDirectory() as folder:
        return AutoTokenizer.from_pretrained(save_tokenizer(Path(folder), "bert"))


def _blip2(ids: Ids) -> tuple[PreTrainedConfig, ProcessorMixin]:
    processor = Blip2Processor(
        image_processor=BlipImageProcessor(size=SQUARE), tokenizer=ids.tokenizer, num_query_tokens=QUERIES
    )
    return _config(ids, "blip-2", {"image_token_index": ids["<image>"]}), processor


def _instructblip(ids: Ids) -> tuple[PreTrainedConfig, ProcessorMixin]:
    words = _qformer_tokenizer()
    processor = InstructBlipProcessor(
        image_processor=BlipImageProcessor(size=SQUARE),
        tokenizer=ids.tokenizer,
        qformer_tokenizer=words,
        num_query_tokens=QUERIES,
    )
    return _config(ids, "instructblip", {"image_token_index": ids["<image>"]}, words=len(words)), processor


def _instructblipvideo(ids: Ids) -> tuple[PreTrainedConfig, ProcessorMixin]:
    words = _qformer_tokenizer()
    processor = InstructBlipVideoProcessor(
        video_processor=InstructBlipVideoVideoProcessor(size=SQUARE),
        tokenizer=ids.tokenizer,
        qformer_tokenizer=words,
        num_query_tokens=QUERIES,
    )
    return _config(ids, "instructblipvideo", {"video_token_index": ids["<video>"]}, words=len(words)), processor


# Their processors put the placeholders before the text themselves, and break on a placeholder with a name.
_OPT: dict[str, Any] = {"chat": None, "text_alone": False, "square": True, "image": "", "video": ""}
_WORDS: dict[str, Any] = {"pad": "<pad>", "bos": "</s>", "eos": "</s>", "opens": True}

FAMILY = (
    Kind("blip-2", words=Words(special=("<image>",), **_WORDS), build=_blip2, **_OPT),
    Kind("instructblip", words=Words(special=("<image>",), **_WORDS), build=_instructblip, **_OPT),
    Kind(
        "instructblipvideo",
        words=Words(special=("<video>",), **_WORDS),
        build=_instructblipvideo,
        pictures=False,
        takes_video=True,
        clips_as_images=True,
        **_OPT,
    ),
)
