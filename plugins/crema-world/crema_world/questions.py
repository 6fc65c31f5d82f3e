"""Questions, their balanced answers and the dense caption of a scene.

Every type needs one modality. Answers of a type are dealt from a shuffled deck, so they differ by at most one in number
within a split, and whoever reads only the question is at chance.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from itertools import product
from typing import NamedTuple, TypeVar

import numpy as np

from crema_world.scene import COLORS, DIRECTIONS, MATERIALS, SHAPES, SLOTS, SOUNDS, Answers, Scene

Choice = TypeVar("Choice")

MODALITY_OF_TYPE: dict[str, str] = {
    "color": "video",
    "shape": "video",
    "nearest": "depth",
    "motion": "flow",
    "first_sound": "audio",
    "material": "touch",
    "hottest": "thermal",
    "facing": "normals",
    "behind": "pointcloud",
}
"""Question type -> the modality that alone can answer it."""

CHOICES_OF_TYPE: dict[str, tuple[str, ...]] = {
    "color": COLORS,
    "shape": SHAPES,
    "nearest": SLOTS,
    "motion": DIRECTIONS,
    "first_sound": SOUNDS,
    "material": MATERIALS,
    "hottest": SLOTS,
    "facing": DIRECTIONS,
    "behind": COLORS,
}
"""Question type -> its possible answers; all are equally frequent."""

TEMPLATE_OF_TYPE: dict[str, str] = {
    "color": "what color is the {colored_shape}?",
    "shape": "what is on the {slot}?",
    "nearest": "which object is nearest?",
    "motion": "which way does the moving object go?",
    "first_sound": "which sound comes first?",
    "material": "what does the touched object feel like?",
    "hottest": "which object is hottest?",
    "facing": "which way does the panel on the wall face?",
    "behind": "what color is the thing behind the viewer?",
}

FACT_OF_TYPE: dict[str, str] = {
    "nearest": "nearest",
    "motion": "moving",
    "first_sound": "first",
    "material": "feels",
    "hottest": "hottest",
    "facing": "facing",
    "behind": "behind",
}
"""Question type -> the word before its answer in a caption, for the types that RGB cannot answer."""


class Question(NamedTuple):
    """One line of the data file, without its files."""

    type: str
    text: str
    answer: str


def deal_answers(num_clips: int, generator: np.random.Generator) -> list[Answers]:
    """Deal the answers of `num_clips` clips; `color` and `shape` are balanced together with what they ask about."""
    named = _deal(list(product(SLOTS, SHAPES)), num_clips, generator)
    colored = _deal(list(product(SHAPES, COLORS)), num_clips, generator)
    single = {kind: _deal(CHOICES_OF_TYPE[kind], num_clips, generator) for kind in FACT_OF_TYPE}
    return [
        Answers(*named[clip], *colored[clip], **{kind: dealt[clip] for kind, dealt in single.items()})
        for clip in range(num_clips)
    ]


def questions_of(scene: Scene) -> list[Question]:
    """Return one question of every type."""
    facts = vars(scene.answers)
    return [Question(kind, template.format(**facts), str(facts[kind])) for kind, template in TEMPLATE_OF_TYPE.items()]


def caption_of(scene: Scene) -> str:
    """Spell every fact: `"left red ball . middle ... . nearest left . ... behind white ."`."""
    facts = vars(scene.answers)
    visible = [f"{slot} {thing.color} {thing.shape}" for slot, thing in zip(SLOTS, scene.things, strict=True)]
    return " . ".join([*visible, *(f"{word} {facts[kind]}" for kind, word in FACT_OF_TYPE.items())]) + " ."


def majority_by_type(questions: Iterable[Question]) -> dict[str, float]:
    """Return, by type, the accuracy in 0..1 of always giving the answer most frequent for the question's exact text."""
    answers: dict[str, dict[str, Counter[str]]] = defaultdict(lambda: defaultdict(Counter))
    for question in questions:
        answers[question.type][question.text][question.answer] += 1
    return {
        kind: sum(max(counts.values()) for counts in texts.values()) / sum(sum(c.values()) for c in texts.values())
        for kind, texts in answers.items()
    }


def _deal(choices: Sequence[Choice], count: int, generator: np.random.Generator) -> list[Choice]:
    deck = [choices[index] for _ in range(-(-count // len(choices))) for index in generator.permutation(len(choices))]
    return [deck[index] for index in generator.permutation(count)]
