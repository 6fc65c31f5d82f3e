"""RGB: what the camera of the room sees, flat colours without shading, shadow or perspective.

Flat on purpose: size, light and overlap say nothing about distance, heat, touch or the panel's direction, so those
questions need their own modality. Motion is a stroboscope: the mover is at home at every even frame and always at one
and the same other place at odd frames, so frames sampled at the middles of 1, 2 or 4 equal segments are equal. Whoever
samples RGB more densely sees it move.

Shape letters: H, W image rows and columns (64).
"""

from __future__ import annotations

import colorsys

import numpy as np
from numpy.typing import NDArray

from crema_world.scene import IMAGE_SIZE, NUM_FRAMES, Scene, Thing

FloatArray = NDArray[np.float32]
ByteArray = NDArray[np.uint8]

HUE_OF_COLOR: dict[str, tuple[float, float, float]] = {
    "red": (0.0, 0.95, 0.9),
    "orange": (0.075, 1.0, 1.0),
    "yellow": (0.155, 0.95, 1.0),
    "green": (0.34, 0.9, 0.75),
    "cyan": (0.5, 0.85, 0.95),
    "blue": (0.625, 0.95, 0.95),
    "purple": (0.79, 0.85, 0.85),
    "white": (0.0, 0.0, 1.0),
}
"""Colour name -> (hue, saturation, value), each in 0..1."""

STEP_OF_DIRECTION: dict[str, tuple[int, int]] = {"left": (-1, 0), "right": (1, 0), "up": (0, -1), "down": (0, 1)}
"""Direction -> unit step (x to the right, y down) in the image."""

FLOOR_ROW = 50
_ROWS, _COLUMNS = np.mgrid[:IMAGE_SIZE, :IMAGE_SIZE].astype(np.float32)


def render_frames(scene: Scene) -> ByteArray:
    """Render the clip.

    Returns:
        `(16, H, W, 3)` uint8 RGB.
    """
    even, odd = render_frame(scene, frame=0), render_frame(scene, frame=1)
    return np.stack([odd if frame % 2 else even for frame in range(NUM_FRAMES)])


def render_frame(scene: Scene, *, frame: int) -> ByteArray:
    """Render one frame, `(H, W, 3)` uint8."""
    wall, floor, panel = (np.array(colorsys.hsv_to_rgb(*hue), dtype=np.float32) for hue in scene.hues)
    image = np.where((_ROWS >= FLOOR_ROW)[..., None], floor, wall)
    image = _paint(image, panel_cover(scene), panel)
    for thing, cover in zip(scene.things, thing_covers(scene, frame=frame), strict=True):
        image = _paint(image, cover, color_of(thing.color, scene.noise_seed))
    noise = np.random.default_rng(scene.noise_seed).normal(0, 0.008, image.shape)  # the same in every frame
    return (np.clip(image + noise, 0, 1) * 255).round().astype(np.uint8)


def color_of(name: str, seed: int) -> FloatArray:
    """Return a paint of this colour, `(3,)` RGB in 0..1, a little different for every seed."""
    hue, saturation, value = HUE_OF_COLOR[name]
    shift = np.random.default_rng([seed, len(name)]).uniform(-1, 1, 3)
    return np.array(
        colorsys.hsv_to_rgb(
            (hue + 0.012 * shift[0]) % 1,
            float(np.clip(saturation + 0.05 * shift[1], 0, 1)),
            float(np.clip(value + 0.08 * shift[2], 0, 1)),
        ),
        dtype=np.float32,
    )


def thing_covers(scene: Scene, *, frame: int) -> FloatArray:
    """Return how much of every pixel each thing covers at a frame, `(3, H, W)` in 0..1."""
    step_x, step_y = STEP_OF_DIRECTION[scene.answers.motion]
    away = scene.stroke * scene.speed_px * (frame % 2)
    return np.stack(
        [
            shape_cover(thing, shift_x=step_x * away, shift_y=step_y * away)
            if index == scene.moving
            else shape_cover(thing)
            for index, thing in enumerate(scene.things)
        ]
    )


def shape_cover(thing: Thing, *, shift_x: float = 0, shift_y: float = 0) -> FloatArray:
    """Return how much of every pixel a thing covers, `(H, W)` in 0..1, from its distance to the outline in pixels."""
    return outline_cover(
        thing.shape, _COLUMNS - (thing.center_x + shift_x), _ROWS - (thing.center_y + shift_y), thing.radius
    )


def outline_cover(shape: str, x: FloatArray, y: FloatArray, radius: float) -> FloatArray:
    """Return the soft mask of a shape centred at the origin of `x` and `y` (pixels, same shape as the result)."""
    across, along = np.abs(x), np.abs(y)
    if shape == "ball":
        distance = np.hypot(x, y) - radius
    elif shape == "cube":
        distance = np.maximum(across, along) - 0.88 * radius
    elif shape == "cone":
        distance = np.maximum(y - 0.85 * radius, (1.85 * across - 0.95 * (y + radius)) / 2.08)
    elif shape == "star":
        distance = 0.5 * ((across**0.6 + along**0.6) ** (1 / 0.6) - 1.45 * radius)
    elif shape == "ring":
        distance = np.abs(np.hypot(x, y) - 0.75 * radius) - 0.27 * radius
    else:
        arm = 0.3 * radius
        distance = np.minimum(np.maximum(across - arm, along - radius), np.maximum(along - arm, across - radius))
    return np.asarray(np.clip(0.5 - distance, 0, 1), dtype=np.float32)


def panel_cover(scene: Scene) -> FloatArray:
    """Return how much of every pixel the panel on the wall covers, `(H, W)` in 0..1."""
    center_x, center_y, half_width, half_height = scene.panel
    outside = np.maximum(np.abs(_COLUMNS - center_x) - half_width, np.abs(_ROWS - center_y) - half_height)
    return np.asarray(np.clip(0.5 - outside, 0, 1), dtype=np.float32)


def _paint(image: FloatArray, cover: FloatArray, color: FloatArray) -> FloatArray:
    return np.asarray(image + cover[..., None] * (color - image), dtype=np.float32)
