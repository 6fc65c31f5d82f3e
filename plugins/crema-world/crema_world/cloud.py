"""The scanner: coloured points beside and behind the viewer, the only modality that reaches behind.

Its field of view ends where the camera's begins, so it says nothing about the things in front (how near they are is
told by depth alone). Coordinates in metres, the viewer at the origin: x to the right, y down, z forward. What is behind
has negative z, what is beside the viewer has not.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from crema_world.render import ByteArray, FloatArray, color_of
from crema_world.scene import COLORS, Scene

NUM_POINTS = 384
"""128 of the thing behind, 96 of each of the two things beside the viewer, 64 of the side walls."""
SIDE_WALL_M = 3.5
"""Distance of the side walls in metres."""


class PointCloud(NamedTuple):
    """Points `(384, 3)` float32 in metres and their colours `(384, 3)` uint8 RGB."""

    xyz: FloatArray
    rgb: ByteArray


def point_cloud(scene: Scene) -> PointCloud:
    """Scan what is behind and beside the viewer, points in a shuffled order; the colours beside are random."""
    generator = np.random.default_rng([scene.noise_seed, 6])
    hidden = (generator.uniform(-1, 1), generator.uniform(-0.3, 0.3), -generator.uniform(1.5, 3))
    parts = [_ball(hidden, 0.4, 128, generator)]
    paints = [(scene.answers.behind, 128)]
    for side in (-1, 1):
        center = (side * generator.uniform(1.5, 2.8), generator.uniform(-0.3, 0.3), generator.uniform(0.6, 2))
        parts.append(_ball(center, 0.4, 96, generator))
        paints.append((str(generator.choice(COLORS)), 96))
    sides = SIDE_WALL_M * generator.choice((-1.0, 1.0), 64)
    parts.append(np.column_stack((sides, generator.uniform(-2, 1, 64), generator.uniform(0.1, 3, 64))))
    colors = [np.tile(color_of(name, scene.noise_seed), (count, 1)) for name, count in paints]
    colors.append(np.full((64, 3), 0.4))
    order = generator.permutation(NUM_POINTS)
    xyz = np.concatenate(parts)[order] + generator.normal(0, 0.005, (NUM_POINTS, 3))
    rgb = np.concatenate(colors)[order] + generator.normal(0, 0.01, (NUM_POINTS, 3))
    return PointCloud(xyz.astype(np.float32), (np.clip(rgb, 0, 1) * 255).round().astype(np.uint8))


def _ball(
    center: tuple[float, float, float], radius: float, count: int, generator: np.random.Generator
) -> NDArray[np.float64]:
    points = generator.normal(size=(count, 3))
    on_sphere = points / np.linalg.norm(points, axis=1, keepdims=True)
    return np.asarray(np.asarray(center) + radius * on_sphere, dtype=np.float64)
