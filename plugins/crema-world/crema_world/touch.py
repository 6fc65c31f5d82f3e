"""The fingertip: a GelSight-like picture of a soft gel pressed on the touched thing's surface.

A camera behind the gel sees its relief lit by three coloured lamps from three sides, so colour is slope. Wood has wide
wavy grain, metal fine straight scratches, cloth a weave, glass nothing.
"""

from __future__ import annotations

import numpy as np

from crema_world.render import ByteArray, FloatArray
from crema_world.scene import IMAGE_SIZE, Scene

_LAMPS = np.array([[np.cos(angle), np.sin(angle)] for angle in np.deg2rad((90, 210, 330))], dtype=np.float32)
"""Directions `(3, 2)` from which the red, green and blue lamp shine."""

_ROWS, _COLUMNS = np.mgrid[:IMAGE_SIZE, :IMAGE_SIZE].astype(np.float32)


def touch_image(scene: Scene) -> ByteArray:
    """Press the gel on the touched thing.

    Returns:
        `(64, 64, 3)` uint8 RGB.
    """
    generator = np.random.default_rng([scene.noise_seed, 5])
    center = generator.uniform(26, 38, 2)
    contact = 1 / (1 + np.exp((np.hypot(_COLUMNS - center[0], _ROWS - center[1]) - generator.uniform(25, 30)) / 2))
    height = contact * (2.0 + relief(scene.answers.material, generator))
    slope_y, slope_x = np.gradient(height)
    light = 0.45 - 0.45 * (slope_x[..., None] * _LAMPS[:, 0] + slope_y[..., None] * _LAMPS[:, 1])
    light += generator.normal(0, 0.01, light.shape)
    return np.asarray((np.clip(light, 0, 1) * 255).round(), dtype=np.uint8)


def relief(material: str, generator: np.random.Generator) -> FloatArray:
    """Make the height of a surface.

    Returns:
        `(64, 64)` float32, in pixels.
    """
    angle, phase = generator.uniform(-0.35, 0.35), generator.uniform(0, 2 * np.pi)
    across = _COLUMNS * np.sin(angle) + _ROWS * np.cos(angle)
    along = _COLUMNS * np.cos(angle) - _ROWS * np.sin(angle)
    if material == "wood":
        waves = across + 1.5 * np.sin(along / generator.uniform(7, 11) + phase)
        height = 1.3 * np.sin(2 * np.pi * waves / generator.uniform(9, 12) + phase)
    elif material == "metal":
        height = 0.6 * np.sin(2 * np.pi * along / generator.uniform(3.6, 4.4) + phase)
    elif material == "cloth":
        period = generator.uniform(6.5, 8.5)
        height = 1.1 * np.sin(2 * np.pi * across / period + phase) * np.sin(2 * np.pi * along / period)
    else:
        height = np.zeros_like(along)
    return np.asarray(height, dtype=np.float32)
