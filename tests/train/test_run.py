"""What a continued run may differ in."""

from __future__ import annotations

import copy
import json
import time
from pathlib import Path
from typing import Any

import pytest

from crema_core.errors import CheckpointError, TrainingError
from crema_core.train.run import new_run_folder, read_config, refuse_changes, refuse_differences
from crema_core.train.settings import RESUMABLE


def config() -> dict[str, Any]:
    return {
        "format": 1,
        "settings": {"epochs": 3, "num_workers": 0},
        "modalities": ["video", "audio"],
        "major": "video",
        "backbone": "abc",
        "data": "4 samples, 1f",
        "eval_data": None,
        "inputs": {"data": "/a/train.jsonl", "eval_data": None},
        "model": {
            "backbone": {"source": "/a/blip2", "revision": None, "precision": "fp32"},
            "fusion": {"name": "self_gated"},
            "seed": 0,
            "modalities": [
                {"name": "video", "version": "0.1.0", "options": {"num_frames": 4}},
                {"name": "audio", "version": "0.1.0", "options": {}},
            ],
        },
    }


def test_an_unchanged_run_is_continued_without_a_word() -> None:
    assert refuse_changes(config(), config(), resumable=RESUMABLE) == []


def test_every_change_of_a_number_is_named() -> None:
    now = copy.deepcopy(config())
    now["model"]["modalities"][0]["options"]["num_frames"] = 8
    now["model"]["backbone"]["precision"] = "bf16"
    now["model"]["fusion"]["name"] = "concat"
    now["settings"]["epochs"] = 5
    with pytest.raises(CheckpointError) as error:
        refuse_changes(config(), now, resumable=RESUMABLE)
    assert str(error.value) == (
        "This run cannot be continued, because something changed (was -> now):\n"
        "  model.backbone.precision: fp32 -> bf16\n"
        "  model.fusion.name: self_gated -> concat\n"
        "  model.modalities.video.options.num_frames: 4 -> 8\n"
        "  epochs: 3 -> 5\n"
        "A continued run must agree with its config.json. Undo the change, or start a new run with another out=. "
        "Nothing was changed."
    )


def test_moved_files_and_more_workers_change_no_number() -> None:
    now = copy.deepcopy(config())
    now["inputs"]["data"] = "/b/train.jsonl"
    now["model"]["backbone"]["source"] = "/b/blip2"
    now["settings"]["num_workers"] = 4
    assert refuse_changes(config(), now, resumable=RESUMABLE) == []


def test_another_version_of_a_package_is_mentioned() -> None:
    now = copy.deepcopy(config())
    now["model"]["modalities"][1]["version"] = "0.2.0"
    assert refuse_changes(config(), now, resumable=RESUMABLE) == ["model.modalities.audio.version: 0.1.0 -> 0.2.0"]


def test_of_other_modalities_only_their_names_are_told() -> None:
    now = copy.deepcopy(config())
    now["modalities"] = ["video"]
    now["model"]["modalities"] = now["model"]["modalities"][:1]
    with pytest.raises(CheckpointError, match="modalities") as error:
        refuse_changes(config(), now, resumable=RESUMABLE)
    assert [line for line in str(error.value).splitlines() if line.startswith("  ")] == [
        "  modalities: ['video', 'audio'] -> ['video']"
    ]


def test_processes_must_agree_on_versions_too() -> None:
    other = copy.deepcopy(config())
    other["model"]["modalities"][1]["version"] = "0.2.0"
    other["data"] = "5 samples, 2e"
    refuse_differences([config(), config()])
    with pytest.raises(TrainingError) as error:
        refuse_differences([config(), config(), other])
    assert str(error.value) == (
        "Process 2 would train something else than process 0 (process 0 -> process 2):\n"
        "  data: 4 samples, 1f -> 5 samples, 2e\n"
        "  model.modalities.audio.version: 0.1.0 -> 0.2.0\n"
        "All processes need the same data, settings, packages and weights. Give all machines the same files. Nothing "
        "was written."
    )


def test_runs_of_the_same_second_get_folders_of_their_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(time, "strftime", lambda _: "20260102-030405")
    found = []
    for _ in range(3):
        found.append(new_run_folder())  # makes it
    assert found == [Path("runs") / f"20260102-030405{ending}" for ending in ("", "-2", "-3")]


@pytest.mark.parametrize("content", ['{"format": 2}', '{"settings": {}}', "[1]"])
def test_a_run_of_another_format_is_not_continued(tmp_path: Path, content: str) -> None:
    (tmp_path / "config.json").write_text(json.dumps(config()))
    assert read_config(tmp_path) == config()
    (tmp_path / "config.json").write_text(content)
    with pytest.raises(CheckpointError) as error:
        read_config(tmp_path)
    assert str(error.value) == (
        f"The run in '{tmp_path}' has another format than 1. Only runs of this format can be continued. Start a new "
        "run with another out=. Nothing was changed."
    )
