"""Several processes give the numbers of one."""

from __future__ import annotations

import io
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch

from crema_core.common.processes import Processes
from crema_core.common.progress import StatusLine
from crema_core.data.unusable import SKIPPED
from crema_core.errors import CremaError, LostProcessError
from crema_core.evaluation.run import evaluate
from crema_core.plugins.control import RunControl
from crema_core.plugins.hooks import Hooks, hookimpl
from crema_core.tokens import ModalityTokens
from crema_core.train.distributed import Distributed, join_processes, leave_processes
from crema_core.train.fit import fit
from crema_core.train.metrics import Value
from tests.support.launch import ChildError, start, together
from tests.support.metrics import without_times
from tests.support.numeric import double_precision
from tests.train.file_modalities import random_model, write_data

pytestmark = pytest.mark.slow  # starts processes

LONG_AND_SHORT = ("red", "left of the blue", "green", "right one")
SETTINGS: dict[str, Any] = {
    "epochs": 2, "batch_size": 4, "lr": 1e-3, "log_every": 1, "modality_dropout": 0.3, "seed": 7, "load_best": False,
}  # fmt: skip


class Outcome(NamedTuple):
    parameters: dict[str, np.ndarray]
    metrics: list[dict[str, Value]]
    exited: dict[str, str]
    said: str


def train(backbone: Path, data: Path, out: Path, **settings: Any) -> Outcome:
    """What one process does, in float64: Adam divides a gradient by its own size, and so makes rounding as large."""
    model = random_model(backbone, dropout=settings.pop("dropout", 0.0), tuning=settings.pop("tuning", None)).double()
    stream = io.StringIO()
    options = {"out": out, "status": StatusLine(stream), "hooks": Hooks(strict=True)}
    with double_precision():
        run = fit(model, data, **{**SETTINGS, **options, **settings})
    parameters = {key: value.numpy() for key, value in model.adapter_state_dict().items()}
    metrics = without_times(run.metrics)
    leave_processes()
    return Outcome(parameters, metrics, run.exited, stream.getvalue())


def largest_difference(one: Outcome, two: Outcome) -> float:
    return max(float(np.abs(one.parameters[key] - two.parameters[key]).max()) for key in one.parameters)


def assert_equal_runs(one: Outcome, two: Outcome) -> None:
    assert largest_difference(one, two) < 1e-10
    assert one.exited.keys() == two.exited.keys()
    assert len(one.metrics) == len(two.metrics)
    for ours, theirs in zip(one.metrics, two.metrics, strict=True):
        assert ours.keys() == theirs.keys()
        for key, value in ours.items():
            assert value == (theirs[key] if isinstance(value, str) else pytest.approx(theirs[key], rel=1e-6)), key


def rare(data: Path, **keep: list[int]) -> Path:
    """Leave a modality's sources only in some lines."""
    lines = [json.loads(line) for line in data.read_text().splitlines()]
    for name, rows in keep.items():
        for row, line in enumerate(lines):
            if row not in rows:
                line.pop(name, None)
    data.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return data


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_data(tmp_path_factory.mktemp("train"), 10, answers=LONG_AND_SHORT)


@pytest.fixture(scope="module")
def whole(t5_folder: Path, data: Path, tmp_path_factory: pytest.TempPathFactory) -> Outcome:
    """A run of one process to its end."""
    return train(t5_folder, data, tmp_path_factory.mktemp("whole") / "run")


@pytest.mark.parametrize(
    "settings",
    [
        {"mode": "joint", "cache": "none", "epochs": 1},
        {"gradient_accumulation_steps": 2, "max_grad_norm": 0.1, "epochs": 1},
        {"modalities": ["wave"], "batch_size": 3, "epochs": 1},
        {"micro_batch_size": 1, "epochs": 1},
        {"mode": "joint", "micro_batch_size": 2, "batch_size": 5, "epochs": 1},
        {"retained_graphs": 0, "epochs": 1},
        {"cache": "none", "num_workers": 1, "epochs": 1},
    ],
    ids=[
        "joint without cache",
        "accumulated and clipped",
        "one modality in odd batches",
        "in parts",
        "joint in parts of odd batches",
        "no graph kept",
        "worker processes",
    ],
)
def test_two_processes_give_the_losses_and_weights_of_one(
    settings: dict[str, Any], t5_folder: Path, data: Path, tmp_path: Path
) -> None:
    alone = train(t5_folder, data, tmp_path / "one", **settings)
    first, _ = together(train, t5_folder, data, tmp_path / "two", **settings)
    assert_equal_runs(alone, first)


def test_two_processes_end_with_equal_weights_those_of_one(
    whole: Outcome, t5_folder: Path, data: Path, tmp_path: Path
) -> None:
    first, second = together(train, t5_folder, data, tmp_path / "two")
    assert_equal_runs(whole, first)
    assert all(np.array_equal(first.parameters[key], second.parameters[key]) for key in first.parameters)
    start = {key: value.numpy() for key, value in random_model(t5_folder).adapter_state_dict().items()}
    assert largest_difference(whole, whole._replace(parameters=start)) > 1e-3


def start_apart(backbone: Path, data: Path, out: Path) -> tuple[Outcome, Outcome]:
    """Train hardly at all from a start that every process drew for itself; returns start and end."""
    rank = int(os.environ["RANK"])
    model = random_model(backbone, dropout=0.0, tuning=None)
    with torch.no_grad():
        for parameter in model.trainable_parameters().values():
            parameter.add_(0.1 * rank)
    before = {key: value.numpy() for key, value in model.adapter_state_dict().items()}
    run = fit(model, data, out=out, **{**SETTINGS, "epochs": 1, "lr": 1e-7}, status=StatusLine(io.StringIO()))
    after = {key: value.numpy() for key, value in model.adapter_state_dict().items()}
    leave_processes()
    return Outcome(before, [], {}, ""), Outcome(after, [], run.exited, "")


def test_all_processes_start_from_the_main_ones_weights(t5_folder: Path, data: Path, tmp_path: Path) -> None:
    (main_start, main_end), (other_start, other_end) = together(start_apart, t5_folder, data, tmp_path / "two")
    assert largest_difference(main_start, other_start) == pytest.approx(0.1, abs=1e-6)
    assert all(np.array_equal(main_end.parameters[key], other_end.parameters[key]) for key in main_end.parameters)
    assert largest_difference(main_start, other_end) < 1e-3


def test_a_process_whose_samples_lack_a_modality_takes_part_in_its_update(t5_folder: Path, tmp_path: Path) -> None:
    # One sample with points and one with a wave: at any time at least one process has none of them.
    data = rare(write_data(tmp_path / "train", 7, answers=LONG_AND_SHORT), points=[3], wave=[6])
    settings = {"epochs": 1, "modality_dropout": 0.0}
    alone = train(t5_folder, data, tmp_path / "one", **settings)
    first, _ = together(train, t5_folder, data, tmp_path / "two", **settings)
    assert any("loss/points" in line for line in first.metrics)
    assert_equal_runs(alone, first)


def test_processes_without_any_sample_of_the_last_batch_take_part(t5_folder: Path, tmp_path: Path) -> None:
    data = write_data(tmp_path / "train", 5, answers=LONG_AND_SHORT)
    alone = train(t5_folder, data, tmp_path / "one", epochs=1)
    assert_equal_runs(alone, together(train, t5_folder, data, tmp_path / "three", count=3, epochs=1)[2])


def test_all_processes_agree_on_early_exits(t5_folder: Path, data: Path, tmp_path: Path) -> None:
    settings = {"epochs": 3, "early_exit": 0.9, "early_exit_reference": "all", "early_exit_loss_drop": None}
    alone = train(t5_folder, data, tmp_path / "one", **settings)
    first, second = together(train, t5_folder, data, tmp_path / "two", **settings)
    assert alone.exited
    assert first.exited == second.exited
    assert_equal_runs(alone, first)
    # Only the main process speaks and writes.
    assert first.said.count("exits after epoch") == len(alone.exited)
    assert second.said == ""
    assert len((tmp_path / "two" / "metrics.jsonl").read_text().splitlines()) == len(first.metrics)


@pytest.mark.slow
def test_validation_is_shared_and_chooses_the_same_best_weights(t5_folder: Path, data: Path, tmp_path: Path) -> None:
    settings = {
        "eval_data": write_data(tmp_path / "valid", 7, seed=1),
        "eval_batch_size": 3,
        "load_best": True,
        "epochs": 2,
    }
    alone = train(t5_folder, data, tmp_path / "one", **settings)
    first, second = together(train, t5_folder, data, tmp_path / "two", **settings)
    assert_equal_runs(alone, first)
    assert_equal_runs(alone, second)
    assert (tmp_path / "one" / "best").read_text() == (tmp_path / "two" / "best").read_text()


@pytest.mark.parametrize(("before", "after"), [(2, 1), (1, 2)])
def test_a_run_goes_on_in_another_number_of_processes(
    before: int, after: int, whole: Outcome, t5_folder: Path, data: Path, tmp_path: Path
) -> None:
    settings = {"checkpoint_every": 2}
    outcomes = start(train_until, 4, t5_folder, data, tmp_path / "moved", count=before, **settings)
    assert {kind for kind, _ in outcomes} == {"error"}
    assert (tmp_path / "moved" / "last").read_text() == "epoch-001-step-000004\n"
    moved = together(train, t5_folder, data, tmp_path / "moved", count=after, resume=True)[0]
    assert_equal_runs(whole, moved)
    assert (
        f"processes: {before} -> {after}: dropout draws other numbers from here on; without dropout nothing changes."
    ) in moved.said.splitlines()


@pytest.mark.slow
def test_with_dropout_a_run_goes_on_to_the_same_bits_in_as_many_processes(
    t5_folder: Path, data: Path, tmp_path: Path
) -> None:
    whole, _ = together(train, t5_folder, data, tmp_path / "whole", dropout=0.2)
    start(train_until, 4, t5_folder, data, tmp_path / "stopped", checkpoint_every=2, dropout=0.2)
    first, second = together(train, t5_folder, data, tmp_path / "stopped", resume=True, dropout=0.2)
    assert all(np.array_equal(first.parameters[key], whole.parameters[key]) for key in whole.parameters)
    assert whole.metrics == first.metrics == second.metrics


def train_until(step: int, *arguments: Any, **settings: Any) -> None:
    """Train and stop without saving after an update."""
    from crema_core.train.metrics import MetricLogger

    update = MetricLogger.update

    def stop(self: MetricLogger, result: Any, at: Any, **named: Any) -> None:
        update(self, result, at, **named)
        if at.step == step + 1:
            raise KeyboardInterrupt

    MetricLogger.update = stop  # type: ignore[method-assign]  # in a process of its own
    train(*arguments, **settings)


def answers(backbone: Path, data: Path, out: Path, *, resume: bool = False) -> tuple[float, float]:
    model = random_model(backbone)
    result = evaluate(model, data, batch_size=3, out=out, resume=resume, processes=join_processes())
    leave_processes()
    return result.accuracy, result.tokens_per_answer


def test_each_question_is_answered_once(t5_folder: Path, data: Path, tmp_path: Path) -> None:
    alone = answers(t5_folder, data, tmp_path / "one.jsonl")
    assert together(answers, t5_folder, data, tmp_path / "three.jsonl", count=3) == [alone] * 3
    assert (tmp_path / "three.jsonl").read_text() == (tmp_path / "one.jsonl").read_text()


def test_an_interrupted_evaluation_goes_on_in_another_number_of_processes(
    t5_folder: Path, data: Path, tmp_path: Path
) -> None:
    alone = answers(t5_folder, data, tmp_path / "one.jsonl")
    whole = (tmp_path / "one.jsonl").read_text().splitlines(keepends=True)
    # Four questions were answered and a fifth was being written.
    (tmp_path / "one.jsonl").write_text("".join(whole[:4]) + whole[4][:10])
    assert together(answers, t5_folder, data, tmp_path / "one.jsonl", resume=True) == [alone] * 2
    assert sorted((tmp_path / "one.jsonl").read_text().splitlines(keepends=True)) == sorted(whole)


def train_differently(backbone: Path, data: Path, out: Path) -> None:
    train(backbone, data, out, lr=(2e-4, 4e-4)[join_processes().rank])


def test_processes_that_would_train_different_things_are_refused(t5_folder: Path, data: Path, tmp_path: Path) -> None:
    outcomes = start(train_differently, t5_folder, data, tmp_path / "run")
    for kind, text in outcomes:
        assert kind == "error"
        assert text.endswith(
            "TrainingError: Process 1 would train something else than process 0 (process 0 -> process 1):\n"
            "  lr: 0.0002 -> 0.0004\n"
            "All processes need the same data, settings, packages and weights. Give all machines the same files. "
            "Nothing was written.\n"
        )
    assert not (tmp_path / "run").exists()


def test_more_processes_than_samples_in_a_minibatch_are_refused(t5_folder: Path, data: Path, tmp_path: Path) -> None:
    with pytest.raises(ChildError) as error:
        together(train, t5_folder, data, tmp_path / "run", batch_size=1)
    assert str(error.value).endswith(
        "OptionsError: batch_size=1 is the whole minibatch, which 2 processes share. Each needs at least one sample. "
        "Raise batch_size, or start fewer processes.\n"
    )


def test_a_used_folder_is_refused_by_all_processes(t5_folder: Path, data: Path, tmp_path: Path) -> None:
    train(t5_folder, data, tmp_path / "run", epochs=1)
    outcomes = start(train, t5_folder, data, tmp_path / "run")
    assert all(text.endswith("Pass resume=True to continue that run, or another out=.\n") for _, text in outcomes)


def leave_early() -> str:
    processes = join_processes()
    if processes.rank == 1:
        return "left"
    try:
        processes.wait()
    except LostProcessError as error:
        return str(error)
    return "not noticed"


def test_a_process_says_that_another_one_ended() -> None:
    message, _ = together(leave_early)
    start_of_message = "Another process of this launch ended while this one waited for it ("
    assert message.startswith(start_of_message)
    assert message.endswith(
        "). All processes must live until the end. Look at the other processes' messages; crema resume continues from "
        "the last checkpoint."
    )


def test_a_launch_that_is_not_whole_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "4")
    for name in ("RANK", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(CremaError) as error:
        join_processes()
    assert str(error.value) == (
        "WORLD_SIZE=4 says that this is one of 4 processes, but RANK, LOCAL_RANK, MASTER_ADDR, MASTER_PORT is not set. "
        "Launchers set all of these. Use crema fit --processes, accelerate launch or torchrun, or unset WORLD_SIZE."
    )


@pytest.mark.parametrize("count", [1, 2, 3, 7])
def test_shards_follow_each_other_and_are_even(count: int) -> None:
    for size in range(12):
        parts = [Processes(rank=rank, count=count).shard(range(size)) for rank in range(count)]
        assert [entry for part in parts for entry in part] == list(range(size))
        assert max(map(len, parts)) - min(map(len, parts)) <= 1


def test_closing_the_trackers_leaves_the_processes_together(
    distributed: Distributed, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Tracker:
        closed = False

        def finish(self) -> None:
            self.closed = True

    tracker, accelerator = Tracker(), distributed.accelerator
    monkeypatch.setattr(accelerator, "log_with", ["mine"])
    monkeypatch.setattr(accelerator, "trackers", [tracker])
    monkeypatch.setattr(type(accelerator.state), "destroy_process_group", lambda *_: pytest.fail("they were parted"))
    distributed.stop_trackers()
    assert tracker.closed


def train_steered(backbone: Path, data: Path, out: Path) -> tuple[Outcome, int, list[str]]:
    """Train with a plugin that halves the rate, looks at gradients and tokens, and stops the run in epoch 1."""
    seen: list[str] = []

    class Steering:
        @hookimpl
        def crema_gradients_ready(self, modalities: Sequence[str], norms: Mapping[str, float]) -> None:
            seen.append(f"{modalities[0]} {sum(norms.values()):.5e}")

        @hookimpl
        def crema_tokens_ready(self, tokens: Mapping[str, ModalityTokens]) -> None:
            assert tokens

        @hookimpl
        def crema_step_finished(self, step: int, control: RunControl) -> None:
            if step == 2:
                control.set_lr_factor(0.5, reason="two steps")
            if step == 4:
                control.stop("four steps")

    hooks = Hooks(strict=True)
    hooks.add(Steering(), name="steering")
    outcome = train(backbone, data, out, hooks=hooks)
    return outcome, int(outcome.metrics[-1]["step"]), seen


def test_what_hooks_of_the_main_process_ask_for_holds_in_all_processes(
    t5_folder: Path, data: Path, tmp_path: Path
) -> None:
    alone, steps, gradients = train_steered(t5_folder, data, tmp_path / "one")
    (first, *_, seen), (second, *_, nothing) = together(train_steered, t5_folder, data, tmp_path / "two")
    assert_equal_runs(alone, first)
    assert all(np.array_equal(first.parameters[key], second.parameters[key]) for key in first.parameters)
    assert (steps, alone.metrics[-1]["kind"], first.metrics[-1]["kind"]) == (4, "stop", "stop")
    assert [line["lr_factor"] for line in first.metrics if line["kind"] == "lr_factor"] == [0.5]
    assert seen == gradients  # the sums over both processes, in the main one alone
    assert nothing == []


def test_samples_that_cannot_be_read_are_left_out_by_all_processes(t5_folder: Path, tmp_path: Path) -> None:
    data = write_data(tmp_path / "data", 12, answers=LONG_AND_SHORT)
    (tmp_path / "data" / "main-1.npy").write_bytes(b"damaged")
    (tmp_path / "data" / "points-6.npy").write_bytes(b"damaged")
    (tmp_path / "data" / "wave-8.npy").unlink()
    settings: dict[str, Any] = {"epochs": 1, "on_error": "skip", "max_skipped": 0.3}
    for cache in ("memory", "none", str(tmp_path / "features")):
        places = [tmp_path / f"{Path(cache).name}-{count}" for count in (1, 2)]
        alone = train(t5_folder, data, places[0], cache=cache, **settings)
        first, second = together(train, t5_folder, data, places[1], cache=cache, **settings)
        assert_equal_runs(alone, first)
        assert largest_difference(first, second) == 0
        assert (places[0] / SKIPPED).read_text() == (places[1] / SKIPPED).read_text()
        assert alone.metrics[0]["data"] == 3
