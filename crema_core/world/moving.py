"""Rooms for several encoders of RGB: the walls have a surface, and one thing crosses its place in eight frames.

The clips of the rest of the world are flat and hardly move, so that every sense has something of its own; here RGB
shows four kinds of facts that different encoders are good at: what things are (colour, shape), how the room is papered
(material) and where the mover goes. Scenes, splits and balanced answers are the world's own.

Shape letters: T frames (8), H, W rows and columns (64), P patches of a frame (64).
"""

from __future__ import annotations

import colorsys
import json
import shutil
import tempfile
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from crema_core.io.atomic import open_up
from crema_core.world.errors import WorldError
from crema_core.world.files import write_video
from crema_core.world.generate import draw_scenes
from crema_core.world.questions import questions_of
from crema_core.world.render import FLOOR_ROW, STEP_OF_DIRECTION, ByteArray, FloatArray, color_of, shape_cover
from crema_core.world.scene import IMAGE_SIZE, Scene, Split
from crema_core.world.touch import relief

NUM_FRAMES = 8
TYPES = ("color", "shape", "motion", "material")
"""Question types that these clips answer."""
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
        image = room
        for thing, cover in zip(scene.things, moving_covers(scene, frame=frame), strict=True):
            image = image + cover[..., None] * (color_of(thing.color, scene.noise_seed) - image)
        frames.append(np.clip(image + noise, 0, 1))
    return np.asarray((np.stack(frames) * 255).round(), dtype=np.uint8)


def moving_covers(scene: Scene, *, frame: int) -> FloatArray:
    """Return how much of every pixel each thing covers at a frame, `(3, H, W)` in 0..1."""
    step_x, step_y = STEP_OF_DIRECTION[scene.answers.motion]
    away = 0.5 * scene.speed_px * (frame - (NUM_FRAMES - 1) / 2)
    return np.stack(
        [
            shape_cover(thing, shift_x=step_x * away, shift_y=step_y * away)
            if index == scene.moving
            else shape_cover(thing)
            for index, thing in enumerate(scene.things)
        ]
    )


def thing_of_patch(scene: Scene, *, frame: int) -> NDArray[np.int64]:
    """Return which thing covers every patch, `(P,)`: 0 for none, else its place from 1 to 3."""
    side = IMAGE_SIZE // PATCH_SIZE
    share = moving_covers(scene, frame=frame).reshape(3, side, PATCH_SIZE, side, PATCH_SIZE).mean((2, 4)).reshape(3, -1)
    return np.where(share.max(0) > 0.12, share.argmax(0) + 1, 0).astype(np.int64)


def make_moving_world(out: Path, *, num_clips: int, seed: int, split: Split) -> Path:
    """Write clips as mp4 and the manifest of their questions, one of each type per clip.

    Args:
        out: a new or empty folder. It appears complete or not at all.
        num_clips: how many clips.
        seed: at least 0; different splits share no arrangement of things under any seed.
        split: "train", "valid" or "test".

    Returns:
        The manifest.

    Raises:
        WorldError: when `out` is not empty. Nothing is written then.
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise WorldError(
            f"{out} exists and is not an empty folder. A world is written only into a new or empty folder. Choose "
            "another folder, or delete this one first. Nothing was changed."
        )
    out.parent.mkdir(parents=True, exist_ok=True)
    scratch = Path(tempfile.mkdtemp(prefix=f".{out.name}-", dir=out.parent))
    try:
        (scratch / "clips").mkdir()
        lines = []
        for number, scene in enumerate(draw_scenes(num_clips=num_clips, seed=seed, split=split)):
            file = f"clips/{number:06d}.mp4"
            write_video(moving_frames(scene), scratch / file)
            asked = [own for own in questions_of(scene) if own.type in TYPES]
            lines += [
                {"id": f"{number:06d}-{own.type}", "question": own.text, "answer": own.answer, "type": own.type}
                | {"video": file}
                for own in asked
            ]
        (scratch / "manifest.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
        open_up(scratch)
        if out.exists():
            out.rmdir()  # it is empty
        scratch.replace(out)
    except BaseException:
        shutil.rmtree(scratch, ignore_errors=True)
        raise
    return out / "manifest.jsonl"
