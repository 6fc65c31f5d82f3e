"""The geometric and thermal sensors: depth, optical flow, surface normals and temperature, from the scene itself.

Shape letters: T frames (16), H, W image rows and columns (64).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from crema_world.render import FLOOR_ROW, STEP_OF_DIRECTION, FloatArray, panel_cover, thing_covers
from crema_world.scene import IMAGE_SIZE, NUM_FRAMES, Scene

WALL_M = 6.0
"""Distance of the wall in metres."""
AMBIENT_K = 288.0

_NORMAL_OF_FACING: dict[str, tuple[float, float, float]] = {
    "left": (-0.77, 0.0, 0.64),
    "right": (0.77, 0.0, 0.64),
    "up": (0.0, 0.77, 0.64),
    "down": (0.0, -0.77, 0.64),
}


def depth_map(scene: Scene) -> NDArray[np.uint16]:
    """Measure distances along the viewing axis.

    Returns:
        `(H, W)` uint16, millimetres. The things' distances do not change their size in the image.
    """
    depth = np.full((IMAGE_SIZE, IMAGE_SIZE), WALL_M)
    depth[FLOOR_ROW:] -= np.linspace(0, 1.2, IMAGE_SIZE - FLOOR_ROW)[:, None]
    for thing, cover in zip(scene.things, thing_covers(scene, frame=0), strict=True):
        depth[cover > 0.5] = thing.distance_m
    noise = np.random.default_rng([scene.noise_seed, 1]).normal(1, 0.004, depth.shape)
    return np.asarray((depth * noise * 1000).round(), dtype=np.uint16)


def thermal_map(scene: Scene) -> NDArray[np.uint16]:
    """Measure temperatures.

    Returns:
        `(H, W)` uint16, kelvin times 100, as radiometric cameras write it.
    """
    heat = np.full((IMAGE_SIZE, IMAGE_SIZE), AMBIENT_K)
    for thing, cover in zip(scene.things, thing_covers(scene, frame=0), strict=True):
        heat += _blur(cover) * (thing.temperature_k - AMBIENT_K)
    heat += np.random.default_rng([scene.noise_seed, 2]).normal(0, 0.2, heat.shape)
    return np.asarray((heat * 100).round(), dtype=np.uint16)


def flow_maps(scene: Scene) -> NDArray[np.float16]:
    """Measure the velocity of everything in view at the time of each frame.

    The mover always goes the same way: it runs a short path and, between frames, starts it again.

    Returns:
        `(T, H, W, 2)` float16, pixels per frame, x to the right and y down.
    """
    flow = np.zeros((NUM_FRAMES, IMAGE_SIZE, IMAGE_SIZE, 2), dtype=np.float16)
    velocity = np.array(STEP_OF_DIRECTION[scene.answers.motion]) * scene.speed_px
    covers = [thing_covers(scene, frame=frame)[scene.moving] > 0.5 for frame in range(2)]
    for frame in range(NUM_FRAMES):
        flow[frame][covers[frame % 2]] = velocity
    return flow


def normal_map(scene: Scene) -> NDArray[np.float16]:
    """Measure surface directions: the wall and the things face the viewer, the floor faces up, the panel is turned.

    Returns:
        `(1, H, W, 3)` float16 unit vectors, x to the right, y up, z towards the viewer.
    """
    normals = np.zeros((IMAGE_SIZE, IMAGE_SIZE, 3))
    normals[..., 2] = 1
    normals[FLOOR_ROW:] = (0, 1, 0)
    normals[panel_cover(scene) > 0.5] = _NORMAL_OF_FACING[scene.answers.facing]
    for cover in thing_covers(scene, frame=0):
        normals[cover > 0.5] = (0, 0, 1)
    normals += np.random.default_rng([scene.noise_seed, 3]).normal(0, 0.02, normals.shape)
    normals /= np.linalg.norm(normals, axis=-1, keepdims=True)
    return normals[None].astype(np.float16)


def _blur(cover: FloatArray) -> FloatArray:
    padded = np.pad(cover, 1)
    rows = (padded[:-2] + 2 * padded[1:-1] + padded[2:]) / 4
    return np.asarray((rows[:, :-2] + 2 * rows[:, 1:-1] + rows[:, 2:]) / 4, dtype=np.float32)
