"""The scanner: coloured points all around the viewer, the only sense that reaches behind.

Coordinates in metres, the viewer at the origin: x to the right, y down, z forward. What is behind has negative z.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from crema_core.world.maps import WALL_M
from crema_core.world.render import ByteArray, FloatArray, color_of
from crema_core.world.scene import IMAGE_SIZE, Scene

NUM_POINTS = 384
"""128 of the thing behind, 64 of each thing in front, 64 of the wall."""


class PointCloud(NamedTuple):
    """Points `(384, 3)` float32 in metres and their colours `(384, 3)` uint8 RGB."""

    xyz: FloatArray
    rgb: ByteArray


def point_cloud(scene: Scene) -> PointCloud:
    """Scan the room: the thing behind the viewer, the three things in front and the wall, in a shuffled order."""
    generator = np.random.default_rng([scene.noise_seed, 6])
    hidden = (generator.uniform(-1, 1), generator.uniform(-0.3, 0.3), -generator.uniform(1.5, 3))
    parts = [_ball(hidden, 0.4, 128, generator)]
    paints = [(scene.answers.behind, 128)]
    for thing in scene.things:
        scale = thing.distance_m / IMAGE_SIZE  # metres per pixel at this distance, for a view 90 degrees wide or less
        center = ((thing.center_x - 32) * scale, (thing.center_y - 32) * scale, thing.distance_m)
        parts.append(_ball(center, thing.radius * scale, 64, generator))
        paints.append((thing.color, 64))
    parts.append(np.column_stack((generator.uniform(-3, 3, 64), generator.uniform(-2, 1, 64), np.full(64, WALL_M))))
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
