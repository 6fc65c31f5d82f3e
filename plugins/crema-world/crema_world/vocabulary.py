"""The words of crema-tiny and the tokenizer made of them, one token per word.

Besides the words of questions, answers, captions and prompt prefixes there are "readings": one word for a whole fact
(`nearest_left`). The language model learns from text that a reading answers its question; an adapter that learns to
say one with a soft token has said everything.
"""

from __future__ import annotations

import re

from transformers import PreTrainedTokenizerFast

from crema_world.questions import CHOICES_OF_TYPE, FACT_OF_TYPE, TEMPLATE_OF_TYPE
from crema_world.scene import COLORS, DIRECTIONS, MATERIALS, SHAPES, SLOTS, SOUNDS

TEXTURES = ("plain", "striped", "checked", "dotted")
"""Words for the boards of the vision stage; captions put them where a thing's shape would be."""

DESCRIBE_ALL = "describe everything."
DESCRIBE_OBJECTS = "describe the objects."
DESCRIBE_BY_SHAPE = "describe the objects by shape."
"""Of words that stand in the vocabulary anyway."""

SPECIAL_TOKENS = ("<pad>", "</s>", "<unk>", "<image>")
IMAGE_TOKEN_ID = 3

_PREFIXES = "frame image video audio depth map optical flow surface normals normalization thermal touch 3d model point"
_PROMPTS = """cloud option question answer choices based on the frames and information use using a single word or phrase
short from following context situation select correct considering presented in select sound"""
_GENERAL = """yes no not none unknown other
one two three four five six seven eight nine ten first second third last i am
there here it this that these those with without of for by at to an is are was be been has have do does can will near
far front behind above below under over between next inside outside big small large tiny bright dark black gray pink
brown hot cold warm cool soft hard rough smooth loud quiet fast slow still moving near farthest nearest coldest hottest
object objects thing things room wall floor panel person hand table chair door window light noise music voice machine
heart radar left middle right top bottom center after before then when where who why how many number count same
different more less most least describe everything shape color"""


def words() -> list[str]:
    """Return the vocabulary, special tokens first, then every word once in a fixed order."""
    texts = [
        *SLOTS, *SHAPES, *COLORS, *DIRECTIONS, *SOUNDS, *MATERIALS, *TEXTURES, *FACT_OF_TYPE.values(), *readings(),
        *".,:;?!-'\"()/", *"0123456789", *"abcdefgh",
        *(re.sub(r"\{.*?\}", "", template) for template in TEMPLATE_OF_TYPE.values()),
        DESCRIBE_ALL, DESCRIBE_OBJECTS, _PREFIXES, _PROMPTS, _GENERAL,
    ]  # fmt: skip
    found = [word for text in texts for word in re.findall(r"\w+|[^\w\s]", text)]
    found = [part for word in found for part in (re.findall(r"\d|\D+", word))]  # digits stand alone
    return [*SPECIAL_TOKENS, *dict.fromkeys(found)]


def reading(kind: str, answer: str) -> str:
    """Return the one word for a fact: `reading("nearest", "left")` is `"nearest_left"`."""
    return f"{FACT_OF_TYPE[kind]}_{answer}"


def readings() -> list[str]:
    """Return all readings."""
    return [reading(kind, answer) for kind in FACT_OF_TYPE for answer in CHOICES_OF_TYPE[kind]]


def make_tokenizer(*, ends: bool = True) -> PreTrainedTokenizerFast:
    """Make the tokenizer: lower case, punctuation and digits split off.

    Args:
        ends: append `</s>` to a text with its special tokens, as T5's does.
    """
    from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, processors

    core = Tokenizer(models.WordLevel({word: index for index, word in enumerate(words())}, unk_token="<unk>"))
    core.normalizer = normalizers.Lowercase()
    core.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.WhitespaceSplit(),
            pre_tokenizers.Split(Regex(r"[^\w\s]|\d"), behavior="isolated"),
        ]
    )
    if ends:
        core.post_processor = processors.TemplateProcessing(
            single="$A </s>", pair="$A </s> $B </s>", special_tokens=[("</s>", 1)]
        )
    return PreTrainedTokenizerFast(
        tokenizer_object=core,
        pad_token="<pad>",
        eos_token="</s>",
        unk_token="<unk>",
        extra_special_tokens=["<image>"],
        model_max_length=512,
        padding_side="right",
    )
