"""Rooms for several encoders of RGB: the walls have a surface, and one thing crosses its place in eight frames.

The clips of the rest of the world are flat and hardly move, so that every modality has something of its own; here RGB
shows four kinds of facts that different encoders are good at: what the thing is (colour, shape), how the room is
papered (material) and where the thing goes. Balanced answers are the world's own.

Shape letters: T frames (8), H, W rows and columns (64), P patches of a frame (64).
"""

from __future__ import annotations

import colorsys
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from crema_core.common.atomic import fresh_folder
from crema_world.errors import WorldError
from crema_world.files import write_video
from crema_world.generate import draw_scenes
from crema_world.render import FLOOR_ROW, STEP_OF_DIRECTION, ByteArray, FloatArray, color_of, shape_cover
from crema_world.scene import IMAGE_SIZE, SLOTS, Scene, Split
from crema_world.touch import relief

NUM_FRAMES = 8
QUESTION_OF_TYPE: dict[str, str] = {
    "color": "what color is the thing?",
    "shape": "what is the thing?",
    "motion": "which way does the thing go?",
    "material": "what does the wall feel like?",
}
"""Question types that these clips answer -> their text."""
TYPES = tuple(QUESTION_OF_TYPE)
PATCH_SIZE = 8
_ROWS = np.mgrid[:IMAGE_SIZE, :IMAGE_SIZE][0]


def moving_frames(scene: Scene) -> ByteArray:
    """Render the clip, `(T, H, W, 3)` uint8 RGB."""
    wall, floor, _ = (np.array(colorsys.hsv_to_rgb(*hue), dtype=np.float32) for hue in scene.hues)
    generator = np.random.default_rng([scene.noise_seed, 11])
    room = np.where((_ROWS >= FLOOR_ROW)[..., None], floor, wall) + 0.2
    room = room * (1 + 0.25 * relief(scene.answers.material, generator)[..., None])
    noise = generator.normal(0, 0.008, room.shape)  # the same in every frame
    frames = []
    for frame in range(NUM_FRAMES):
        cover = thing_cover(scene, frame=frame)
        image = room + cover[..., None] * (color_of(scene.answers.color, scene.noise_seed) - room)
        frames.append(np.clip(image + noise, 0, 1))
    return np.asarray((np.stack(frames) * 255).round(), dtype=np.uint8)


def thing_cover(scene: Scene, *, frame: int) -> FloatArray:
    """Return how much of every pixel the thing covers at a frame, `(H, W)` in 0..1."""
    home = scene.things[SLOTS.index(scene.answers.slot)]
    thing = replace(home, shape=scene.answers.shape, radius=1.4 * home.radius)
    step_x, step_y = STEP_OF_DIRECTION[scene.answers.motion]
    away = 0.5 * scene.speed_px * (frame - (NUM_FRAMES - 1) / 2)
    return shape_cover(thing, shift_x=step_x * away, shift_y=step_y * away)


def covered_patches(scene: Scene, *, frame: int) -> NDArray[np.bool_]:
    """Return which patches the thing covers, `(P,)`."""
    side = IMAGE_SIZE // PATCH_SIZE
    share = thing_cover(scene, frame=frame).reshape(side, PATCH_SIZE, side, PATCH_SIZE).mean((1, 3)).ravel()
    return np.asarray(share > 0.12)


def make_moving_world(out: Path, *, num_clips: int, seed: int, split: Split) -> Path:
    """Write clips as mp4 and the data file of their questions, one of each type per clip.

    Args:
        out: a new or empty folder. It appears complete or not at all.
        num_clips: how many clips.
        seed: at least 0; different splits share no arrangement of things under any seed.
        split: "train", "valid" or "test".

    Returns:
        The data file.

    Raises:
        WorldError: when `out` is not empty. Nothing is written then.
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise WorldError(
            f"{out} exists and is not an empty folder. A world is written only into a new or empty folder. Choose "
            "another folder, or delete this one first. Nothing was changed."
        )
    with fresh_folder(out, flush=False) as scratch:
        (scratch / "clips").mkdir()
        lines = []
        for number, scene in enumerate(draw_scenes(num_clips=num_clips, seed=seed, split=split)):
            file = f"clips/{number:06d}.mp4"
            write_video(moving_frames(scene), scratch / file)
            for kind, text in QUESTION_OF_TYPE.items():
                line = {"id": f"{number:06d}-{kind}", "question": text, "answer": getattr(scene.answers, kind)}
                lines.append({**line, "type": kind, "video": file})
        (scratch / "data.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    return out / "data.jsonl"
