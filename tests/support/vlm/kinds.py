"""What one kind of vision-language model is: what tests must know of it, its tokens, its template, its builder."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, processors
from transformers import PreTrainedConfig, PreTrainedTokenizerFast, ProcessorMixin

SPARE_ROWS = 8
"""Rows of the embedding beyond the vocabulary, as published models have them."""


@dataclass(frozen=True)
class Words:
    """The tokens of a family: every byte, and these beside them.

    Args:
        special: Special tokens without a name of their own.
        named: Special tokens a processor reads by attribute, such as `{"image_token": "<image>"}`.
        pad: Fills up a batch.
        eos: Ends an answer.
        bos: Opens a text, None where the family has none.
        unk: Stands for the unknown, None where the family has none.
        opens: Whether the tokenizer itself writes `bos` before each text.
        last: Special tokens that follow the bytes.
    """

    special: tuple[str, ...] = ()
    named: Mapping[str, str] = field(default_factory=dict)
    pad: str = "<pad>"
    eos: str = "</s>"
    bos: str | None = None
    unk: str | None = None
    opens: bool = False
    last: tuple[str, ...] = ()


@dataclass(frozen=True)
class Kind:
    """One kind of vision-language model of transformers, and what tests must know of it.

    Args:
        name: The `model_type` of its `config.json`.
        words: Its tokens.
        chat: Its chat template, None where the published checkpoints have none.
        build: Makes configuration and processor for a tokenizer.
        pictures: Whether its processor takes pictures.
        takes_video: Whether its processor takes clips of its own.
        takes_audio: Whether its processor takes waveforms.
        image: What stands for a picture in a prompt written by hand.
        video: What stands for a clip in a prompt written by hand.
        audio: What stands for a waveform in a prompt written by hand.
        text_alone: Whether it takes a prompt without picture, clip and waveform.
        video_options: Further arguments its processor needs beside a clip.
        clips_as_images: Whether its processor takes a clip of four frames as `images` and knows no metadata.
        tokenizer_has_chat: Whether the loaded processor drops the template, so that its tokenizer alone has it.
        image_text_to_text: Whether `AutoModelForImageTextToText` knows it; else only `AutoModelForMultimodalLM` does.
        square: Whether a wide and a tall picture differ in nothing but pixels, so that no grid is to be kept.
    """

    name: str
    words: Words
    chat: str | None
    build: Callable[[Ids], tuple[PreTrainedConfig, ProcessorMixin]]
    pictures: bool = True
    takes_video: bool = False
    takes_audio: bool = False
    image: str = "<image>"
    video: str = "<video>"
    audio: str = "<audio>"
    text_alone: bool = True
    video_options: Mapping[str, Any] = field(default_factory=dict)
    clips_as_images: bool = False
    tokenizer_has_chat: bool = False
    image_text_to_text: bool = True
    square: bool = False


@dataclass(frozen=True)
class Ids:
    """A tokenizer with what configurations need of it: `ids["<image>"]` is the token's id."""

    tokenizer: PreTrainedTokenizerFast

    def __getitem__(self, token: str) -> int:
        index = self.tokenizer.get_vocab().get(token)
        assert index is not None, f"{token!r} is not a token of this tokenizer"
        return index

    @property
    def rows(self) -> int:
        """Of the embedding: the vocabulary and some spare rows, a multiple of 8."""
        return -(-(len(self.tokenizer) + SPARE_ROWS) // 8) * 8

    @property
    def ends(self) -> dict[str, Any]:
        """Ids of the tokens that pad, open and close, as arguments of a configuration."""
        tokenizer = self.tokenizer
        return {
            "pad_token_id": tokenizer.pad_token_id,
            "bos_token_id": tokenizer.bos_token_id,
            "eos_token_id": tokenizer.eos_token_id,
        }

    def text(self, model_type: str, **options: Any) -> dict[str, Any]:
        """Return the configuration of a language model 32 wide with two layers."""
        sizes = {
            "model_type": model_type,
            "vocab_size": self.rows,
            "hidden_size": 32,
            "intermediate_size": 64,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "max_position_embeddings": 1024,
        }
        return {**sizes, **self.ends, **options}


def byte_tokenizer(words: Words) -> PreTrainedTokenizerFast:
    """Return a tokenizer of all bytes and a family's special tokens, which come first; pads on the left."""
    ends = [token for token in (words.pad, words.bos, words.eos, words.unk) if token is not None]
    special = list(dict.fromkeys([*ends, *words.named.values(), *words.special]))
    pieces = [*special, *sorted(pre_tokenizers.ByteLevel.alphabet()), *words.last]
    tokenizer = Tokenizer(models.BPE(vocab={piece: index for index, piece in enumerate(pieces)}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(
        [AddedToken(token, special=True, normalized=False) for token in [*special, *words.last]]
    )
    if words.opens:
        assert words.bos is not None
        tokenizer.post_processor = processors.TemplateProcessing(
            single=f"{words.bos} $A",
            pair=f"{words.bos} $A {words.bos} $B",
            special_tokens=[(words.bos, tokenizer.token_to_id(words.bos))],
        )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token=words.pad,
        eos_token=words.eos,
        bos_token=words.bos,
        unk_token=words.unk,
        extra_special_tokens=dict(words.named),
        padding_side="left",
        clean_up_tokenization_spaces=False,
    )
