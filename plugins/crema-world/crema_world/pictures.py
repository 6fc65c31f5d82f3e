"""RGB pictures for the training of crema-tiny's eyes: rooms of the train split, textured boards and abstract ones.

Rooms look like the clips (a little blurred and noisy, as a video codec leaves them). Boards have three bands with a
texture each. Abstract pictures are patches of any colour without a caption. No picture shows another modality's map.

Shape letters: N pictures, P patches of a picture (64), H, W rows and columns (64).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from crema_world.generate import draw_scenes
from crema_world.prompts import Label
from crema_world.render import ByteArray, FloatArray, color_of, outline_cover, render_frame, thing_covers
from crema_world.scene import COLORS, IMAGE_SIZE, SHAPES, SLOTS, Scene
from crema_world.vocabulary import TEXTURES

PATCH_SIZE = 8
COLOR_LABELS = ("none", *COLORS)
SHAPE_LABELS = ("none", *SHAPES, *TEXTURES)
UNLABELLED = -100

_ROWS, _COLUMNS = np.mgrid[:IMAGE_SIZE, :IMAGE_SIZE].astype(np.float32)


@dataclass(frozen=True)
class Pictures:
    """Pictures with what is known about them.

    Attributes:
        images: `(N, H, W, 3)` uint8 RGB.
        colors: `(N, P)` int64 index into `COLOR_LABELS`, or -100 where a patch has no clear colour.
        shapes: `(N, P)` int64 index into `SHAPE_LABELS`, or -100.
        things: for every picture three labels from left to right, or none for an abstract one.
    """

    images: ByteArray
    colors: NDArray[np.int64]
    shapes: NDArray[np.int64]
    things: list[Sequence[Label]]


def draw_pictures(count: int, *, seed: int) -> Pictures:
    """Draw pictures: six in ten are rooms, two boards, two abstract; in a shuffled order."""
    generator = np.random.default_rng([seed, 10])
    rooms = draw_scenes(num_clips=max(1, count * 6 // 10), seed=seed, split="train")
    drawn = [_draw_room(scene, generator) for scene in rooms]
    while len(drawn) < count:
        drawn.append(_draw_board(generator) if len(drawn) % 2 else _draw_abstract(generator))
    drawn = [drawn[index] for index in generator.permutation(count)]
    return Pictures(
        images=np.stack([image for image, _, _, _ in drawn]),
        colors=np.stack([colors for _, colors, _, _ in drawn]),
        shapes=np.stack([shapes for _, _, shapes, _ in drawn]),
        things=[things for _, _, _, things in drawn],
    )


_Drawn = tuple[ByteArray, NDArray[np.int64], NDArray[np.int64], Sequence[Label]]


def _draw_room(scene: Scene, generator: np.random.Generator) -> _Drawn:
    frame = int(generator.integers(2))
    image = np.asarray(render_frame(scene, frame=frame) / 255, dtype=np.float32)
    colors, shapes = np.zeros(64, dtype=np.int64), np.zeros(64, dtype=np.int64)
    for thing, cover in zip(scene.things, thing_covers(scene, frame=frame), strict=True):
        share = cover.reshape(8, PATCH_SIZE, 8, PATCH_SIZE).mean((1, 3)).ravel()
        colors[share > 0.02] = np.where(share > 0.12, COLOR_LABELS.index(thing.color), UNLABELLED)[share > 0.02]
        shapes[share > 0.02] = np.where(share > 0.12, SHAPE_LABELS.index(thing.shape), UNLABELLED)[share > 0.02]
    things = [(slot, thing.color, thing.shape) for slot, thing in zip(SLOTS, scene.things, strict=True)]
    return _as_filmed(image, generator), colors, shapes, things


def _draw_board(generator: np.random.Generator) -> _Drawn:
    image = np.empty((IMAGE_SIZE, IMAGE_SIZE, 3), dtype=np.float32)
    colors, shapes, things = np.zeros((8, 8), dtype=np.int64), np.zeros((8, 8), dtype=np.int64), []
    bounds = (0, 24, 40, 64) if generator.random() < 0.7 else (0, 0, 64, 64)  # three bands, or one that fills all
    same = str(generator.choice(TEXTURES)), str(generator.choice(COLORS))
    for band, slot in enumerate(SLOTS):
        texture, color = same if bounds[1] == 0 else (str(generator.choice(TEXTURES)), str(generator.choice(COLORS)))
        part = slice(bounds[band], bounds[band + 1])
        ground = (generator.uniform(0, 0.45) + generator.uniform(-0.05, 0.05, 3)).astype(np.float32)
        paint = color_of(color, int(generator.integers(2**31)))
        image[:, part] = (ground + _texture(texture, generator)[..., None] * (paint - ground))[:, part]
        patches = slice(part.start // PATCH_SIZE, part.stop // PATCH_SIZE)
        colors[:, patches], shapes[:, patches] = COLOR_LABELS.index(color), SHAPE_LABELS.index(texture)
        things.append((slot, color, texture))
    return _as_filmed(image, generator), colors.ravel(), shapes.ravel(), things


def _texture(name: str, generator: np.random.Generator) -> FloatArray:
    """Return how much of the paint every pixel has, `(H, W)` in 0..1."""
    angle, period = generator.uniform(0, np.pi), generator.uniform(4, 13)
    phases = generator.uniform(0, 2 * np.pi, 2)
    across = np.sin(2 * np.pi * (_COLUMNS * np.sin(angle) + _ROWS * np.cos(angle)) / period + phases[0])
    along = np.sin(2 * np.pi * (_COLUMNS * np.cos(angle) - _ROWS * np.sin(angle)) / period + phases[1])
    sharp = generator.uniform(1.5, 6)
    wave = {
        "plain": np.full_like(across, 3.0),
        "striped": across,
        "checked": across * along,
        "dotted": across + along - 1.1,
    }[name]
    return np.asarray(np.clip(0.5 + sharp * wave / 2, 0, 1), dtype=np.float32)


def _draw_abstract(generator: np.random.Generator) -> _Drawn:
    image: FloatArray = np.full((IMAGE_SIZE, IMAGE_SIZE, 3), _any_color(generator), dtype=np.float32)
    for _ in range(generator.integers(2, 7)):
        x, y = _COLUMNS - generator.uniform(0, 64), _ROWS - generator.uniform(0, 64)
        cover = outline_cover(str(generator.choice(SHAPES)), x, y, generator.uniform(5, 18))
        paint = _any_color(generator)
        texture = _texture("plain" if generator.random() < 0.7 else str(generator.choice(TEXTURES)), generator)
        image = np.asarray(image + (cover * texture)[..., None] * (paint - image), dtype=np.float32)
    nothing = np.full(64, UNLABELLED)
    return _as_filmed(image, generator), nothing, nothing, ()


def _any_color(generator: np.random.Generator) -> FloatArray:
    if generator.random() < 0.4:
        return np.full(3, generator.uniform(), dtype=np.float32)  # gray
    return generator.uniform(size=3).astype(np.float32)


def _as_filmed(image: FloatArray, generator: np.random.Generator) -> ByteArray:
    """Add what a camera and a codec do: a gain, colours a little smeared, noise."""
    image = image * np.float32(generator.uniform(0.92, 1.05))
    smeared = (image + np.roll(image, 1, axis=0) + np.roll(image, 1, axis=1) + np.roll(image, (1, 1), axis=(0, 1))) / 4
    gray, smeared_gray = image.mean(-1, keepdims=True), smeared.mean(-1, keepdims=True)
    image = gray + (smeared - smeared_gray) if generator.random() < 0.7 else image
    noisy = np.clip(image + generator.normal(0, 0.012, image.shape), 0, 1)
    return np.asarray((noisy * 255).round(), dtype=np.uint8)
