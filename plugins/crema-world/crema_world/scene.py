"""A scene: everything that is true in one simulated room, before any sensor looks at it.

Three things stand in the slots left, middle and right. Each fact that a question can ask for is drawn on its own, so
that no modality carries another modality's answer. Which split a scene belongs to is a function of its visible
arrangement
(shape and colour in every slot): two splits cannot share one, whatever their seeds.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

Split = Literal["train", "valid", "test"]

SPLITS: tuple[Split, ...] = ("train", "valid", "test")
SLOTS = ("left", "middle", "right")
SHAPES = ("ball", "cube", "cone", "star", "ring", "cross")
COLORS = ("red", "orange", "yellow", "green", "cyan", "blue", "purple", "white")
DIRECTIONS = ("left", "right", "up", "down")
SOUNDS = ("bell", "drum", "whistle", "buzz")
MATERIALS = ("wood", "metal", "cloth", "glass")

IMAGE_SIZE = 64
"""Side in pixels of every image of the world."""
NUM_FRAMES = 16
FRAMES_PER_SECOND = 8

SLOT_X = (11.0, 32.0, 53.0)
"""Column in pixels around which the thing of each slot stands."""

_DRAWS_BEFORE_GIVING_UP = 10_000


@dataclass(frozen=True)
class Thing:
    """One of the three things. Centre and radius are in pixels of the image; its distance does not change them."""

    shape: str
    color: str
    center_x: float
    center_y: float
    radius: float
    distance_m: float
    temperature_k: float


@dataclass(frozen=True)
class Answers:
    """What a clip's questions will have as answers; the rest of its scene is drawn around them."""

    slot: str
    shape: str
    colored_shape: str
    color: str
    nearest: str
    hottest: str
    motion: str
    first_sound: str
    material: str
    facing: str
    behind: str


@dataclass(frozen=True)
class Scene:
    """A room, as the sensors will find it.

    Attributes:
        answers: the facts that the questions ask for.
        things: left, middle, right.
        moving: index of the one thing that moves.
        speed_px: its speed, pixels per frame.
        stroke: +1 or -1: where the mover stands at odd frames, one step ahead of its home or one behind.
        sounds: first and second.
        panel: centre x, centre y, half width, half height in pixels of the panel on the wall.
        hues: wall, floor and panel colour as (hue, saturation, value), each in 0..1.
        noise_seed: seed of sensor noise and textures.
    """

    answers: Answers
    things: tuple[Thing, Thing, Thing]
    moving: int
    speed_px: int
    stroke: int
    sounds: tuple[str, str]
    panel: tuple[float, float, float, float]
    hues: tuple[tuple[float, float, float], ...]
    noise_seed: int


def arrangement(things: Sequence[tuple[str, str]]) -> str:
    """Spell what RGB shows: `"red ball, blue cube, white star"` for (shape, color) from left to right."""
    return ", ".join(f"{color} {shape}" for shape, color in things)


def split_of(visible: str) -> Split:
    """Return the one split that an arrangement may appear in: eight tenths train, one tenth valid, one tenth test."""
    bucket = zlib.crc32(visible.encode()) % 10
    return "train" if bucket < 8 else "valid" if bucket == 8 else "test"


def draw_scene(answers: Answers, split: Split, generator: np.random.Generator) -> Scene:
    """Draw a scene with these answers whose arrangement belongs to `split`."""
    shapes, colors = _draw_arrangement(answers, split, generator)
    near, hot = SLOTS.index(answers.nearest), SLOTS.index(answers.hottest)
    things = tuple(
        Thing(
            shape=shapes[slot],
            color=colors[slot],
            center_x=SLOT_X[slot] + generator.uniform(-1.5, 1.5),
            center_y=40 + generator.uniform(-4, 4),
            radius=generator.uniform(6.0, 7.5),
            distance_m=generator.uniform(0.8, 1.2) if slot == near else generator.uniform(2.4, 4.0),
            temperature_k=generator.uniform(309, 316) if slot == hot else generator.uniform(294, 302),
        )
        for slot in range(3)
    )
    others = [sound for sound in SOUNDS if sound != answers.first_sound]
    return Scene(
        answers=answers,
        things=(things[0], things[1], things[2]),
        moving=int(generator.integers(3)),
        speed_px=int(generator.integers(3, 5)),
        stroke=int(generator.choice((-1, 1))),
        sounds=(answers.first_sound, str(generator.choice(others))),
        panel=(
            32 + generator.uniform(-8, 8),
            13 + generator.uniform(-1.5, 1.5),
            generator.uniform(18, 22),
            generator.uniform(7, 9),
        ),
        hues=(
            (generator.uniform(), generator.uniform(0, 0.35), generator.uniform(0.15, 0.55)),
            (generator.uniform(), generator.uniform(0, 0.35), generator.uniform(0.15, 0.55)),
            (generator.uniform(), generator.uniform(0, 1), generator.uniform(0.3, 1)),
        ),
        noise_seed=int(generator.integers(2**31)),
    )


def _draw_arrangement(answers: Answers, split: Split, generator: np.random.Generator) -> tuple[list[str], list[str]]:
    wanted = dict.fromkeys((answers.shape, answers.colored_shape))  # one or two shapes, order kept
    for _ in range(_DRAWS_BEFORE_GIVING_UP):
        spare = [str(shape) for shape in generator.permutation(SHAPES) if shape not in wanted]
        rest = [*list(wanted)[1:], *spare][:2]
        shapes = [rest[index] for index in generator.permutation(2)]
        shapes.insert(SLOTS.index(answers.slot), answers.shape)
        colors = [str(color) for color in generator.permutation(COLORS) if color != answers.color][:2]
        colors.insert(shapes.index(answers.colored_shape), answers.color)
        if split_of(arrangement(list(zip(shapes, colors, strict=True)))) == split:
            return shapes, colors
    raise AssertionError(f"no arrangement of split {split} has {answers}")
