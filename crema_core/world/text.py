"""Text of the world: facts of all senses, a question and its answer, to teach the small language model.

Its prompts have the layout in which senses will speak to it later: frames, then what the supporting senses say, then
the question. Facts come as words, as readings (one word per fact) or as soft blocks, in which one position carries the
sum of several words: so the model that is frozen afterwards can be steered by soft tokens that share positions.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache

from crema_core.world.questions import CHOICES_OF_TYPE, FACT_OF_TYPE, TEMPLATE_OF_TYPE
from crema_core.world.scene import COLORS, SHAPES, SLOTS
from crema_core.world.vocabulary import DESCRIBE_ALL, DESCRIBE_OBJECTS, TEXTURES, make_tokenizer, reading

NUM_QUERIES = 8
_INSTRUCTION = "based on the frames and information , answer the question using a single word or phrase ."
_PREFIXES = (
    *["frame {} :"] * 6, "depth map {} :", "optical flow {} :", "surface normals {} :", "thermal :", "touch :",
    "audio :", "3d model :",
)  # fmt: skip
MAX_WORDS_PER_POSITION = 8


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


Label = tuple[str, str, str]
"""(slot, color, shape) of one thing."""


@dataclass(frozen=True)
class TextScene:
    """What a prompt tells: three things, and answers by type for questions that RGB cannot answer."""

    things: list[Label]
    facts: Mapping[str, str]


def draw_text_scene(generator: random.Random, *, things: list[Label] | None = None) -> TextScene:
    """Draw facts, and things unless given, all independent; one scene in eight has textures in the place of shapes."""
    if things is None:
        colors = generator.sample(COLORS, 3)
        shapes = generator.choices(TEXTURES, k=3) if generator.random() < 0.125 else generator.sample(SHAPES, 3)
        things = list(zip(SLOTS, colors, shapes, strict=True))
    return TextScene(things, {kind: generator.choice(CHOICES_OF_TYPE[kind]) for kind in FACT_OF_TYPE})


def draw_text_sample(
    generator: random.Random, *, dense: bool, num_frames: int, brief: bool = False
) -> tuple[Prompt, str]:
    """Draw a prompt and its answer.

    Args:
        generator: source of all randomness.
        dense: ask for a description of several facts instead of one.
        num_frames: how many times the prompt shows the things.
        brief: only things, no other facts.
    """
    scene = draw_text_scene(generator)
    if brief:
        scene = TextScene(scene.things, {})
    known, question, answer = draw_told_question(scene, generator, dense=dense)
    prompt = Prompt()
    _say_frames(prompt, scene, generator, num_frames=num_frames)
    tell_facts(prompt, scene, known, generator, num_frames=num_frames)
    end_prompt(prompt, question, generator)
    return prompt, answer


def draw_told_question(
    scene: TextScene, generator: random.Random, *, dense: bool
) -> tuple[set[str], str, str]:
    """Draw the types of the facts that will be told, a question and its answer."""
    known = {kind for kind in scene.facts if generator.random() < 0.7}
    asked, question, answer = _draw_question(scene, known, generator, dense=dense)
    if asked in scene.facts:
        known.add(asked)
        if generator.random() < 0.05:  # nobody tells: every answer should be as likely as the others
            known.discard(asked)
            answer = generator.choice(CHOICES_OF_TYPE[asked])
    return known, question, answer


def tell_facts(
    prompt: Prompt, scene: TextScene, known: set[str], generator: random.Random, *, num_frames: int
) -> None:
    """Append the known facts in one of the three forms, in random order."""
    told = [(kind, scene.facts[kind]) for kind in generator.sample(sorted(known), len(known))]
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


def describe_things(scene: TextScene) -> str:
    """Spell the things: `"left red ball . middle blue cube . right green cone ."`."""
    return " . ".join(" ".join(thing) for thing in scene.things) + " ."


@cache
def token_ids(text: str) -> tuple[int, ...]:
    """Return a text's token ids without special tokens."""
    return tuple(_tokenizer()(text, add_special_tokens=False).input_ids)


def _draw_question(
    scene: TextScene, known: set[str], generator: random.Random, *, dense: bool
) -> tuple[str, str, str]:
    if dense:
        described, draw = describe_things(scene), generator.random()
        if draw < 0.5 and len({shape for _, _, shape in scene.things}) == 3:
            return "describe", *_ask_in_turn(scene, generator)
        if draw < 0.75:
            return "describe", DESCRIBE_OBJECTS, described
        told = [f"{word} {scene.facts[kind]} ." for kind, word in FACT_OF_TYPE.items() if kind in known]
        return "describe", DESCRIBE_ALL, " ".join([described, *told])
    asked = generator.choice(("color", "color", "shape", "shape", *scene.facts))
    slot, color, shape = generator.choice(scene.things)
    if asked == "color" and shape in TEXTURES:
        asked = "shape"
    question = TEMPLATE_OF_TYPE[asked].format(colored_shape=shape, slot=slot)
    return asked, question, {"color": color, "shape": shape, **scene.facts}[asked]


def _ask_in_turn(scene: TextScene, generator: random.Random) -> tuple[str, str]:
    """Ask about all things in random order: three lookups by key in one answer teach binding soonest."""
    things = generator.sample(scene.things, 3)
    if generator.random() < 0.5:
        keys, values = [shape for _, _, shape in things], [color for _, color, _ in things]
        question = "what color is the " + " , the ".join(keys) + "?"
    else:
        keys, values = [slot for slot, _, _ in things], [shape for _, _, shape in things]
        question = "what is on the " + " , the ".join(keys) + "?"
    return question, " . ".join(values) + " ."


def _say_frames(prompt: Prompt, scene: TextScene, generator: random.Random, *, num_frames: int) -> None:
    soft = generator.random() < 0.6
    order = generator.sample(scene.things, 3)
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


def _say_soft_block(
    prompt: Prompt, told: list[tuple[str, str]], generator: random.Random, *, num_frames: int
) -> None:
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
def _tokenizer():  # type: ignore[no-untyped-def]
    return make_tokenizer()
