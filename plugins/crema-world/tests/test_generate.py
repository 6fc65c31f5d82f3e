"""A world on the disk: deterministic, balanced, split, complete or absent."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from itertools import combinations
from pathlib import Path

import pytest

from crema_core.data.sampling import middle_indices
from crema_world import WorldError, WorldSummary, make_world
from crema_world.generate import draw_scenes
from crema_world.questions import CHOICES_OF_TYPE, MODALITY_OF_TYPE, majority_by_type, questions_of
from crema_world.render import render_frames
from crema_world.scene import NUM_FRAMES, SPLITS, Scene, arrangement

MODALITIES = ("video", "audio", "depth", "flow", "normals", "pointcloud", "touch", "thermal")


def visible(scene: Scene) -> str:
    return arrangement([(thing.shape, thing.color) for thing in scene.things])


@pytest.fixture(scope="module")
def summary(tmp_path_factory: pytest.TempPathFactory) -> WorldSummary:
    return make_world(tmp_path_factory.mktemp("world") / "test", num_clips=6, seed=3, split="test")


def test_importing_the_room_imports_neither_numpy_nor_torch() -> None:
    code = "import sys, crema_world; print(sorted({'numpy', 'torch', 'av', 'transformers'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_the_same_seed_gives_the_same_bytes(summary: WorldSummary, tmp_path: Path) -> None:
    again = make_world(tmp_path / "again", num_clips=6, seed=3, split="test")
    first, second = summary.data_file.parent, again.data_file.parent
    names = sorted(str(path.relative_to(first)) for path in first.rglob("*") if path.is_file())
    assert names == sorted(str(path.relative_to(second)) for path in second.rglob("*") if path.is_file())
    assert [name for name in names if (first / name).read_bytes() != (second / name).read_bytes()] == []


def test_two_processes_write_what_one_writes(summary: WorldSummary, tmp_path: Path) -> None:
    again = make_world(tmp_path / "again", num_clips=6, seed=3, split="test", processes=2)
    assert again.data_file.read_bytes() == summary.data_file.read_bytes()
    assert (again.data_file.parent / "clips/000005.ply").read_bytes() == (
        summary.data_file.parent / "clips/000005.ply"
    ).read_bytes()


def test_a_data_line_names_every_modality_and_every_file_exists(summary: WorldSummary) -> None:
    lines = [json.loads(line) for line in summary.data_file.read_text().splitlines()]
    assert len(lines) == summary.num_questions == 6 * len(MODALITY_OF_TYPE)
    assert summary.counts == dict.fromkeys(MODALITY_OF_TYPE, 6)
    for line in lines:
        assert list(line) == ["id", "question", "answer", "type", *MODALITIES]
        assert line["answer"] in CHOICES_OF_TYPE[line["type"]]
        assert all((summary.data_file.parent / line[modality]).is_file() for modality in MODALITIES)
    assert len({line["id"] for line in lines}) == len(lines)


def test_captions_spell_all_answers(summary: WorldSummary) -> None:
    lines = [json.loads(line) for line in summary.data_file.read_text().splitlines()]
    captions = [json.loads(line) for line in summary.captions.read_text().splitlines()]
    assert len(captions) == summary.num_clips
    for caption in captions:
        mine = {line["type"]: line["answer"] for line in lines if line["video"] == caption["video"]}
        ending = (
            f"nearest {mine['nearest']} . moving {mine['motion']} . first {mine['first_sound']} . "
            f"feels {mine['material']} . hottest {mine['hottest']} . facing {mine['facing']} . "
            f"behind {mine['behind']} ."
        )
        assert caption["answer"].endswith(ending)
        assert {mine["color"], mine["shape"]} <= set(caption["answer"].split())


@pytest.mark.parametrize("split", SPLITS)
def test_whoever_sees_only_the_question_is_at_chance(split: str) -> None:
    scenes = draw_scenes(num_clips=480, seed=1, split=split)  # type: ignore[arg-type]
    majority = majority_by_type(question for scene in scenes for question in questions_of(scene))
    for kind, choices in CHOICES_OF_TYPE.items():
        assert majority[kind] == pytest.approx(1 / len(choices), abs=0.01), kind


def test_no_modality_carries_another_modalities_answer() -> None:
    scenes = draw_scenes(num_clips=2400, seed=0, split="train")
    for first, second in combinations(("nearest", "motion", "first_sound", "material", "hottest", "facing"), 2):
        pairs = Counter((vars(scene.answers)[first], vars(scene.answers)[second]) for scene in scenes)
        expected = 2400 / len(CHOICES_OF_TYPE[first]) / len(CHOICES_OF_TYPE[second])
        assert max(abs(count - expected) for count in pairs.values()) < 0.35 * expected, (first, second)


def test_splits_share_no_arrangement_under_any_seed() -> None:
    seen = {
        split: {visible(scene) for seed in (0, 7) for scene in draw_scenes(num_clips=300, seed=seed, split=split)}
        for split in SPLITS
    }
    for first, second in combinations(SPLITS, 2):
        assert not seen[first] & seen[second]


def test_frames_sampled_by_the_rule_are_equal_and_motion_is_in_the_others() -> None:
    for scene in draw_scenes(num_clips=20, seed=0, split="train"):
        frames = render_frames(scene)
        for wanted in (1, 2, 4):
            assert all((frames[index] == frames[0]).all() for index in middle_indices(NUM_FRAMES, wanted))
        assert (frames[1] != frames[0]).any()


@pytest.mark.parametrize("facts", ["nearest", "hottest", "motion", "facing", "first_sound", "material", "behind"])
def test_what_rgb_shows_does_not_depend_on_the_other_modalities_facts(facts: str) -> None:
    # Scenes that differ in this answer only have the same home frame, so RGB there cannot tell it.
    from dataclasses import replace

    for scene in draw_scenes(num_clips=5, seed=2, split="train"):
        others = [
            replace(scene, answers=replace(scene.answers, **{facts: answer})) for answer in CHOICES_OF_TYPE[facts]
        ]
        assert all((render_frames(other)[0] == render_frames(scene)[0]).all() for other in others)


def test_a_used_folder_is_refused_and_left_alone(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("keep")
    with pytest.raises(WorldError) as caught:
        make_world(tmp_path, num_clips=1, seed=0, split="train")
    assert str(caught.value) == (
        f"{tmp_path} exists and is not an empty folder. A world is written only into a new or empty folder, so that no "
        "file of another one stays in it. Choose another folder, or delete this one first. Nothing was changed."
    )
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


def test_an_empty_folder_is_used(tmp_path: Path) -> None:
    assert make_world(tmp_path / "new" / "deep", num_clips=1, seed=0, split="valid").num_clips == 1
    (tmp_path / "empty").mkdir()
    assert make_world(tmp_path / "empty", num_clips=1, seed=0, split="valid").data_file.is_file()


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"num_clips": 0}, "num_clips is 0. It must be at least 1. Write num_clips=1 or more."),
        ({"seed": -1}, "seed is -1. It must be at least 0. Write seed=0 or more."),
        (
            {"split": "tset"},
            "'tset' is not a split of a world. Splits: train, valid, test. Write split=\"train\", for example. "
            "Did you mean 'test'?",
        ),
    ],
)
def test_wrong_values_are_refused_before_anything_is_written(
    wrong: dict[str, object], message: str, tmp_path: Path
) -> None:
    with pytest.raises(WorldError) as caught:
        make_world(tmp_path / "out", **({"num_clips": 1, "seed": 0, "split": "train"} | wrong))  # type: ignore[arg-type]
    assert str(caught.value) == message
    assert list(tmp_path.iterdir()) == []


def test_an_interrupted_world_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("crema_world.generate.write_clip", stop)
    with pytest.raises(KeyboardInterrupt):
        make_world(tmp_path / "out", num_clips=1, seed=0, split="train")
    assert list(tmp_path.iterdir()) == []
