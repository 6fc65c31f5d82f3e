"""A process killed at any moment, by SIGKILL, leaves a run that continues as if nothing had happened."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from crema_core.common.progress import StatusLine
from crema_core.plugins.hooks import Hooks, hookimpl
from crema_core.train.checkpoints import pointed, read_checkpoint
from crema_core.train.fit import fit
from crema_core.train.metrics import Value
from crema_core.train.run import LAST
from tests.support.launch import begin, start
from tests.support.metrics import without_times
from tests.train.file_modalities import random_model, write_data

pytestmark = pytest.mark.slow  # starts processes

SETTINGS: dict[str, Any] = {"epochs": 2, "batch_size": 2, "lr": 1e-2, "log_every": 1, "checkpoint_every": 1, "seed": 7}
TRIES = 10
Outcome = tuple[dict[str, np.ndarray], list[dict[str, Value]], float | None]


def kill_myself() -> None:
    os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(60)


def train(backbone: Path, data: Path, out: Path, *, after_step: int = 0, before_change: int = 0) -> Outcome:
    """Train, or continue where an earlier call was killed.

    Args:
        backbone, data, out: places.
        after_step: the update after which this process is killed.
        before_change: the how-manieth change to files (flushes, renames, deletions) is not done any more.
    """
    hooks = Hooks(strict=True)

    class Killer:
        @staticmethod
        @hookimpl
        def crema_step_finished(step: int) -> None:
            if step == after_step:
                kill_myself()

    hooks.add(Killer, name="test")
    if before_change:
        _count_changes(before_change)
    model = random_model(backbone, dropout=0.1, num=2)
    run = fit(
        model,
        data / "train" / "data.jsonl",
        data / "valid" / "data.jsonl",
        out=out,
        resume=(out / "config.json").exists(),
        hooks=hooks,
        status=StatusLine(enabled=False),
        **SETTINGS,
    )
    parameters = {key: value.numpy() for key, value in model.adapter_state_dict().items()}
    return parameters, without_times(run.metrics), run.best_score


def _count_changes(last: int) -> None:
    """Kill this process before its `last`-th change to files."""
    done = 0

    def counted(change: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **named: Any) -> Any:
            nonlocal done
            done += 1
            if done == last:
                kill_myself()
            return change(*arguments, **named)

        return call

    for name in ("fsync", "rename", "replace", "unlink", "rmdir"):
        setattr(os, name, counted(getattr(os, name)))


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    write_data(folder / "train", 6, modalities="mo")
    write_data(folder / "valid", 3, seed=1, modalities="mo")
    return folder


@pytest.fixture(scope="module")
def whole(t5_folder: Path, data: Path, tmp_path_factory: pytest.TempPathFactory) -> Outcome:
    """A run that nobody stopped."""
    return train(t5_folder, data, tmp_path_factory.mktemp("whole") / "run")


def assert_same(found: Outcome, expected: Outcome) -> None:
    assert all(np.array_equal(found[0][key], expected[0][key]) for key in expected[0])
    assert found[1:] == expected[1:]


@pytest.mark.slow
def test_killed_after_any_update(whole: Outcome, t5_folder: Path, data: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    for step in (1, 3, 4, 6):
        assert start(train, t5_folder, data, out, count=1, after_step=step) == [("died", -signal.SIGKILL)]
    assert_same(train(t5_folder, data, out), whole)


@pytest.mark.slow
@pytest.mark.parametrize("changes", [(2, 4, 5, 9, 10, 11, 12, 13, 14, 16, 18), (20, 22, 23)], ids=["early", "late"])
def test_killed_at_any_point_of_writing(
    changes: tuple[int, ...], whole: Outcome, t5_folder: Path, data: Path, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    # A checkpoint is a dozen changes: five files, a rename, the pointers, the deletion of the one before.
    for change in changes:
        assert start(train, t5_folder, data, out, count=1, before_change=change) == [("died", -signal.SIGKILL)]
        last = pointed(out, LAST)
        if last is not None:
            read_checkpoint(last)
    assert_same(train(t5_folder, data, out), whole)
    assert not [path.name for path in [*out.iterdir(), *(out / "checkpoints").iterdir()] if path.name[0] == "."]


@pytest.mark.parametrize("moment", ["lines written", "checkpoint being written"])
def test_killed_from_outside(moment: str, whole: Outcome, t5_folder: Path, data: Path, tmp_path: Path) -> None:
    for number in range(TRIES):  # on a busy machine it may be done before this process sees the moment
        out = tmp_path / f"run-{number}"
        process = begin(train, t5_folder, data, out)
        while not (seen := _reached(moment, out)) and process.is_alive():
            pass
        process.kill()
        process.join()
        if seen:
            break
    assert seen
    assert _reached("lines written", out)
    assert_same(train(t5_folder, data, out), whole)


def _reached(moment: str, out: Path) -> bool:
    if moment == "lines written":
        return (out / "metrics.jsonl").exists() and (out / "metrics.jsonl").read_text().count("\n") >= 1
    return any((out / "checkpoints").glob(".epoch-000-step-000002*"))


def test_a_run_killed_before_its_first_checkpoint_starts_from_its_beginning(
    t5_folder: Path, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run"
    assert start(train, t5_folder, data, out, count=1, after_step=1) == [("died", -signal.SIGKILL)]
    assert not (out / "last").exists()
    model = random_model(t5_folder, dropout=0.1, num=2)
    fit(model, data / "train" / "data.jsonl", data / "valid" / "data.jsonl", out=out, resume=True)
    told = "This run stopped before its first checkpoint; it starts from its beginning."
    assert told in capsys.readouterr().err.splitlines()
