"""Prompts for the small language model, in the layout in which modalities will speak to it later.

Frames come first, then what the supporting modalities say, then the question. Facts come as words, as readings (one
word per fact) or as soft blocks, in which one position carries the sum of several words: so the model that is frozen
afterwards can be steered by soft tokens that share positions.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache

from transformers import PreTrainedTokenizerFast

from crema_world.questions import FACT_OF_TYPE
from crema_world.vocabulary import make_tokenizer, reading

NUM_QUERIES = 8
_INSTRUCTION = "based on the frames and information , answer the question using a single word or phrase ."
_PREFIXES = (
    *["frame {} :"] * 6, "depth map {} :", "optical flow {} :", "surface normals {} :", "thermal :", "touch :",
    "audio :", "3d model :",
)  # fmt: skip
MAX_WORDS_PER_POSITION = 8

Label = tuple[str, str, str]
"""(slot, color, shape) of one thing."""


@dataclass
class Prompt:
    """A prompt under construction.

    Attributes:
        words: for every position the ids of the words whose embeddings are summed there.
        weights: for every position the factor of each of its words.
        soft: for every position whether it stands for a soft token.
    """

    words: list[list[int]] = field(default_factory=list)
    weights: list[list[float]] = field(default_factory=list)
    soft: list[bool] = field(default_factory=list)

    def say(self, text: str) -> None:
        """Append plain text."""
        for token in token_ids(text):
            self.add([token], [1.0], soft=False)

    def add(self, words: list[int], weights: list[float], *, soft: bool) -> None:
        """Append one position."""
        self.words.append(words[:MAX_WORDS_PER_POSITION])
        self.weights.append(weights[:MAX_WORDS_PER_POSITION])
        self.soft.append(soft)


def show_things(prompt: Prompt, things: Sequence[Label], generator: random.Random, *, num_frames: int) -> None:
    """Append frames that all show the things, as words or as soft tokens of three of the queries."""
    soft = generator.random() < 0.6
    order = generator.sample(things, 3)
    holders = generator.sample(range(NUM_QUERIES), 3)
    for frame in range(1, num_frames + 1):
        prompt.say(f"frame {frame} :" if num_frames > 1 or generator.random() < 0.5 else "frame :")
        if not soft:
            prompt.say(" . ".join(" ".join(thing) for thing in order) + " .")
            continue
        for query in range(NUM_QUERIES):
            if query in holders:
                words = [token_ids(word)[0] for word in order[holders.index(query)]]
                prompt.add(words, [generator.uniform(0.6, 1.4) for _ in words], soft=True)
            else:
                prompt.add(*_filler(generator), soft=True)


def tell_facts(prompt: Prompt, facts: Mapping[str, str], generator: random.Random, *, num_frames: int) -> None:
    """Append facts (answers by question type) in one of the three forms, in random order."""
    told = [(kind, facts[kind]) for kind in generator.sample(sorted(facts), len(facts))]
    form = generator.choice(("words", "readings", "soft", "soft"))
    if not told and generator.random() < 0.5:
        return
    if form == "words":
        prompt.say(" . ".join(f"{FACT_OF_TYPE[kind]} {value}" for kind, value in told))
    elif form == "readings":
        prompt.say(" ".join(reading(kind, value) for kind, value in told))
    else:
        _say_soft_block(prompt, told, generator, num_frames=num_frames)


def end_prompt(prompt: Prompt, question: str, generator: random.Random) -> None:
    """Append the question, sometimes worded a little differently, and the end token."""
    prompt.say(_vary(question, generator))
    prompt.say("</s>")


@cache
def token_ids(text: str) -> tuple[int, ...]:
    """Return a text's token ids without special tokens."""
    return tuple(_tokenizer()(text, add_special_tokens=False).input_ids)


def _say_soft_block(prompt: Prompt, told: list[tuple[str, str]], generator: random.Random, *, num_frames: int) -> None:
    """Put every fact's reading on some of the queries, the same ones in every frame; facts share positions."""
    holders = {fact: generator.sample(range(NUM_QUERIES), generator.randint(1, NUM_QUERIES)) for fact in told}
    loudness = {fact: generator.uniform(0.4, 1.4) for fact in told}
    prefix, place = generator.choice(_PREFIXES), generator.choice(("none", "none", "each", "first"))
    if place == "first":
        prompt.say(" ".join(prefix.format(frame) for frame in range(1, num_frames + 1)))
    for frame in range(1, num_frames + 1):
        if place == "each":
            prompt.say(prefix.format(frame))
        for query in range(NUM_QUERIES):
            here = [fact for fact in told if query in holders[fact]]
            words, weights = _filler(generator)
            words = [*(token_ids(reading(*fact))[0] for fact in here), *words]
            prompt.add(words, [*(loudness[fact] for fact in here), *weights], soft=True)


def _filler(generator: random.Random) -> tuple[list[int], list[float]]:
    if generator.random() < 0.5:
        return [0], [0.0]
    return [generator.randrange(3, 60)], [generator.uniform(0, 0.4)]


def _vary(question: str, generator: random.Random) -> str:
    if generator.random() < 0.15:
        question = question.rstrip("?.")
    if generator.random() < 0.1:
        question = f"question : {question}"
    if generator.random() < 0.1:
        question = f"{question} {_INSTRUCTION}"
    return question


@cache
def _tokenizer() -> PreTrainedTokenizerFast:
    return make_tokenizer()
