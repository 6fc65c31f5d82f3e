"""Rooms with surfaces and motion, and the encoders that are trained on them."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch

from crema_core.data.clips import read_clip
from crema_core.video.vision_encoder import vision_encoder_class
from crema_world.errors import WorldError
from crema_world.generate import draw_scenes
from crema_world.moving import NUM_FRAMES, TYPES, covered_patches, make_moving_world, moving_frames, thing_cover
from crema_world.pretrain_encoders import LESSONS, Schedule, draw_clips, exchange_colors, pretrain_encoders
from crema_world.render import STEP_OF_DIRECTION
from crema_world.scene import MATERIALS, Scene

SHORT = Schedule(steps=2, num_clips=4, batch_size=2)
SCENES = draw_scenes(num_clips=8, seed=0, split="train")


@pytest.mark.parametrize("scene", SCENES, ids=lambda scene: scene.answers.motion)
def test_the_thing_goes_where_the_answer_says(scene: Scene) -> None:
    rows, columns = np.mgrid[:64, :64]
    step_x, step_y = STEP_OF_DIRECTION[scene.answers.motion]
    places = []
    for frame in (2, 5):
        cover = thing_cover(scene, frame=frame)
        places.append(((columns * cover).sum() / cover.sum(), (rows * cover).sum() / cover.sum()))
    (first_x, first_y), (last_x, last_y) = places
    assert (last_x - first_x) * step_x + (last_y - first_y) * step_y > 2


def test_the_frames_are_the_same_twice_and_papered_by_material() -> None:
    by_material = {scene.answers.material: scene for scene in SCENES}
    assert np.array_equal(moving_frames(SCENES[0]), moving_frames(SCENES[0]))
    rough = {
        name: float(moving_frames(scene)[0, :8].astype(float).std(0).mean()) for name, scene in by_material.items()
    }
    assert min(rough, key=rough.__getitem__) == "glass"
    assert set(rough) == set(MATERIALS)


def test_every_patch_is_named_after_what_covers_it() -> None:
    clips = draw_clips(SCENES[:2])
    covered = covered_patches(SCENES[0], frame=3)
    assert 4 <= covered.sum() <= 25
    assert clips.frames.shape == (2, NUM_FRAMES, 64, 64, 3)
    for what in ("color", "shape", "motion"):
        assert (clips.labels[what][0, 3] > 0).tolist() == covered.tolist()
    assert (clips.labels["material"][0, 3] == 0).tolist() == covered.tolist()


def test_a_world_has_one_question_of_each_type_about_every_clip(tmp_path: Path) -> None:
    data_file = make_moving_world(tmp_path / "world", num_clips=3, seed=1, split="test")
    lines = [json.loads(line) for line in data_file.read_text().splitlines()]
    assert Counter(line["type"] for line in lines) == dict.fromkeys(TYPES, 3)
    assert len({line["video"] for line in lines}) == 3
    clip = read_clip(str(data_file.parent / lines[0]["video"]), num_frames=NUM_FRAMES)
    assert clip.frames.shape == (NUM_FRAMES, 3, 64, 64)
    with pytest.raises(WorldError) as caught:
        make_moving_world(tmp_path / "world", num_clips=3, seed=1, split="test")
    assert str(caught.value) == (
        f"{tmp_path / 'world'} exists and is not an empty folder. A world is written only into a new or empty folder. "
        "Choose another folder, or delete this one first. Nothing was changed."
    )


@pytest.mark.slow
def test_a_few_steps_write_encoders_that_the_encoders_read_and_repeat_exactly(tmp_path: Path) -> None:
    pytest.importorskip("crema_encoders")
    first = pretrain_encoders(tmp_path / "one", seed=1, schedule=SHORT)
    pretrain_encoders(tmp_path / "two", seed=1, schedule=SHORT)
    assert list(first) == ["stills", "motion", "texture"]
    for name in LESSONS:
        one, two = ((tmp_path / place / name / "model.safetensors").read_bytes() for place in ("one", "two"))
        assert one == two
    clip = torch.from_numpy(moving_frames(SCENES[0])).permute(0, 3, 1, 2)
    for own in first.values():
        vision_encoder = vision_encoder_class(own["name"])(own["weights"])
        vision_encoder.load()
        with torch.no_grad():
            seen = vision_encoder(vision_encoder.prepare(clip[: vision_encoder.frames_wanted(4)])[None])
        assert seen.shape == (1, 4, 64, 64)
    with pytest.raises(WorldError) as caught:
        pretrain_encoders(tmp_path / "one", schedule=SHORT)
    assert str(caught.value) == (
        f"{tmp_path / 'one'} exists and is not an empty folder. Encoders are written only into a new or empty folder. "
        "Choose another folder with --out. Nothing was changed."
    )


def test_exchanged_colors_keep_every_edge_of_a_clip() -> None:
    pixels = torch.from_numpy(moving_frames(SCENES[0])).permute(0, 3, 1, 2)[None]
    changed = exchange_colors(pixels, np.random.default_rng(0))
    assert changed.shape == pixels.shape
    assert changed.dtype == torch.uint8
    assert not torch.equal(changed, pixels)
    steps = [values[0].int().diff(dim=-1).abs().sum(1) for values in (pixels, changed)]
    assert torch.equal(*steps)
