"""The page about security: every promise names tests that exist, and what no other file tests is tested here."""

from __future__ import annotations

import builtins
import json
import os
import re
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from benchmarks.campaigns.texts import ADAPTER, MODEL
from crema_core.common.tensors import read_released, read_tensors
from crema_core.data.files import check_file
from crema_core.data.unusable import SourceCheck
from crema_core.errors import CacheError, CheckpointError, CremaError, MediaError
from crema_core.features.cache.folder import read_entries
from crema_core.features.cache.keys import FileDigests
from crema_core.model.checkpoint import read_config, require_files
from crema_core.saving.adapters import read_description
from crema_core.saving.bundle import read_model_config
from crema_core.train.checkpoints import pointed

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "security.md").read_text(encoding="utf-8")


def promises() -> list[str]:
    part = PAGE.partition("## What is promised")[2].partition("## What is not promised")[0]
    return re.split(r"\n- ", part)[1:]


def test_every_promise_is_held_by_tests_that_exist() -> None:
    assert len(promises()) >= 7
    for promise in promises():
        named = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", promise)
        assert named, promise
        for file, name in named:
            assert f"\ndef {name}(" in (ROOT / file).read_text(encoding="utf-8"), f"{file}::{name}"


def test_a_pickle_in_a_torch_file_is_not_run(tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self) -> tuple[Callable[..., object], tuple[str]]:
            return os.mkdir, (str(tmp_path / "was run"),)

    torch.save({"model": Evil()}, tmp_path / "released.pt")
    with pytest.raises(CheckpointError, match="read without executing code"):
        read_released(tmp_path / "released.pt")
    assert not (tmp_path / "was run").exists()


def test_code_beside_a_config_is_neither_run_nor_asked_about(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    monkeypatch.setattr(builtins, "input", lambda text="": asked.append(text) or "y")
    (tmp_path / "evil.py").write_text(f"import os\nos.mkdir({str(tmp_path / 'was run')!r})\nclass Config: ...\n")
    config = {"model_type": "evil", "auto_map": {"AutoConfig": "evil.Config"}}
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(CheckpointError, match="No backbone was found"):
        read_config(tmp_path, None, what="backbone", accepted="one", try_next="Try another.")
    assert asked == []
    assert not (tmp_path / "was run").exists()


def saved(place: Path, name: object) -> Path:
    """A saved model whose one modality has this name."""
    place.mkdir()
    entry = {key: ADAPTER[key] for key in ("distribution", "version", "options", "mmqa", "prefix")}
    (place / "crema.json").write_text(json.dumps({**MODEL, "major": name, "modalities": [{"name": name, **entry}]}))
    (place / "complete").touch()
    return place


@pytest.mark.parametrize("name", ["../other", "/tmp", "..", "a/b", "linked"])
def test_a_saved_model_names_nothing_outside_its_folder(tmp_path: Path, name: str) -> None:
    (tmp_path / "other").mkdir()
    place = saved(tmp_path / "model", name)
    (place / "linked").symlink_to(tmp_path / "other")
    with pytest.raises(CheckpointError) as caught:
        read_model_config(place)
    message = str(caught.value)
    assert message.startswith(f"'{place}' names '{name}' as the folder of a modality, which is ")
    assert "Accepted are names of what lies directly inside this folder" in message
    assert message.endswith("Nothing was changed.")
    assert read_model_config(saved(tmp_path / "whole", "video"))["major"] == "video"


@pytest.mark.parametrize("name", ["../../other", "/tmp", "..", "", "linked"])
def test_a_run_points_at_its_own_checkpoints(tmp_path: Path, name: str) -> None:
    run, other = tmp_path / "run", tmp_path / "other"
    (run / "checkpoints").mkdir(parents=True)
    other.mkdir()
    (run / "checkpoints" / "linked").symlink_to(other)
    (run / "last").write_text(name + "\n")
    with pytest.raises(CheckpointError, match="as its checkpoint 'last', which is"):
        pointed(run, "last")
    (run / "last").write_text("epoch-000-step-000001\n")
    assert pointed(run, "last") == run / "checkpoints" / "epoch-000-step-000001"


def test_shards_lie_beside_their_index(tmp_path: Path) -> None:
    index = tmp_path / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {"a": "model-1.safetensors"}}))
    require_files(tmp_path)
    for name in ("../model-1.safetensors", "/tmp/a.safetensors"):
        index.write_text(json.dumps({"weight_map": {"a": name}}))
        with pytest.raises(CheckpointError, match="as a file of its weights, which is no plain name"):
            require_files(tmp_path)


def test_a_pipe_is_refused_wherever_a_file_is_read(tmp_path: Path) -> None:
    def model(name: str, content: dict[str, object]) -> Path:
        place = tmp_path / name
        place.mkdir()
        for file in content:
            os.mkfifo(place / file)
        (place / "complete").touch()
        return place

    pipe = tmp_path / "a.wav"
    os.mkfifo(pipe)
    (tmp_path / "zero.wav").symlink_to("/dev/zero")
    reads: list[tuple[type[CremaError], Callable[[], object]]] = [
        (MediaError, lambda: check_file(pipe, what="a sound", suffixes=[".wav"])),
        (MediaError, lambda: check_file(tmp_path / "zero.wav", what="a sound", suffixes=[".wav"])),
        (MediaError, lambda: FileDigests(tmp_path / "journals").of(str(pipe))),
        (CheckpointError, lambda: read_model_config(model("model", {"crema.json": 0}))),
        (CheckpointError, lambda: read_description(model("adapter", {"adapter.json": 0}))),
        (CheckpointError, lambda: read_tensors(pipe)),
        (CheckpointError, lambda: read_tensors(pipe, sha256="0" * 64)),
        (CheckpointError, lambda: read_released(pipe)),
        (CacheError, lambda: read_entries(pipe)),
        (CheckpointError, lambda: require_files(model("backbone", {"model.safetensors": 0}))),
        (CheckpointError, lambda: require_files(model("config", {"config.json": 0}))),
    ]
    for kind, read in reads:
        with pytest.raises(kind, match=r"is a (pipe|device), not a file"):
            read()
    assert SourceCheck({}).fault("sound", str(pipe)) == ("blocked", "is a pipe, not a file")
