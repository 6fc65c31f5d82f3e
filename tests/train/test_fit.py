"""The whole loop: runs, stops, continues."""

from __future__ import annotations

import io
import json
import os
import shutil
import signal
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from crema_core.api.model import CremaModel
from crema_core.common.progress import StatusLine
from crema_core.common.stopping import exit_code
from crema_core.data import modality_calls
from crema_core.errors import CheckpointError, DataFileError, TrainingError
from crema_core.evaluation import run as evaluation
from crema_core.evaluation.run import EvaluationResult
from crema_core.model.precision import computed_in
from crema_core.plugins.hooks import Hooks, hookimpl
from crema_core.train.fit import fit
from crema_core.train.metrics import Value
from crema_core.train.run import Run
from crema_core.train.trainer import Trainer, TrainingInterrupted
from tests.support.metrics import without_times
from tests.train.conftest import MakeModel
from tests.train.file_modalities import write_data, write_records

SETTINGS: dict[str, Any] = {
    "epochs": 2, "batch_size": 2, "lr": 1e-2, "log_every": 1, "modality_dropout": 0.3, "seed": 7,
}  # fmt: skip


def hooks_of(**functions: Callable[..., None]) -> Hooks:
    hooks = Hooks(strict=True)
    hooks.add(type("Plugin", (), {name: staticmethod(hookimpl(call)) for name, call in functions.items()}), name="test")
    return hooks


RELEASED = {"early_exit_reference": "all", "early_exit_loss_drop": None}


def quiet() -> StatusLine:
    return StatusLine(io.StringIO(), enabled=False)


def train(model: CremaModel, folder: Path, out: str, **changes: Any) -> Run:
    if not (folder / "train").exists():
        write_data(folder / "train", 6)
        write_data(folder / "valid", 3, seed=1)
    options = {"eval_data": folder / "valid" / "data.jsonl", "status": quiet(), "hooks": Hooks(strict=True), **SETTINGS}
    return fit(model, folder / "train" / "data.jsonl", out=folder / out, **{**options, **changes})


def interrupt_at(*steps: int) -> Hooks:
    def crema_step_finished(step: int) -> None:
        if step in steps:
            os.kill(os.getpid(), signal.SIGINT)

    return hooks_of(crema_step_finished=crema_step_finished)


def numbers(run: Run) -> list[dict[str, Value]]:
    return without_times(run.metrics)


def same(first: CremaModel, second: CremaModel) -> bool:
    one, two = first.adapter_state_dict(), second.adapter_state_dict()
    return all(torch.equal(one[key], two[key]) for key in one)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("steps", "cache"),
    [((1, 5), "memory"), pytest.param((4, 6), "none", marks=pytest.mark.slow)],
    ids=["twice inside an epoch", "after an epoch's and the training's last update"],
)
def test_an_interrupted_run_ends_with_the_numbers_of_an_uninterrupted_one(
    steps: tuple[int, ...], cache: str, new_model: MakeModel, tmp_path: Path
) -> None:
    whole, stopped = new_model(dropout=0.1), new_model(dropout=0.1)
    expected = train(whole, tmp_path, "whole", cache=cache)
    for number, _ in enumerate(steps):
        with pytest.raises(TrainingInterrupted):
            train(stopped, tmp_path, "stopped", cache=cache, resume=number > 0, hooks=interrupt_at(*steps[number:]))
    # A new process has a new model; every number must come from the checkpoint.
    continued = new_model(dropout=0.1)
    run = train(continued, tmp_path, "stopped", cache=cache, resume=True)
    assert numbers(run) == numbers(expected)
    assert (run.best_score, run.exited, run.num_steps) == (expected.best_score, expected.exited, expected.num_steps)
    assert same(whole, continued)


@pytest.mark.slow
def test_a_run_that_dies_goes_on_from_its_last_checkpoint(new_model: MakeModel, tmp_path: Path) -> None:
    class DiedError(BaseException):
        """Like a killed process: nothing is saved on the way out."""

    def crema_step_finished(step: int) -> None:
        if step == 5:
            raise DiedError

    whole, continued = new_model(dropout=0.1), new_model(dropout=0.1)
    expected = train(whole, tmp_path, "whole", checkpoint_every=2)
    hooks = hooks_of(crema_step_finished=crema_step_finished)
    with pytest.raises(DiedError):
        train(new_model(dropout=0.1), tmp_path, "died", checkpoint_every=2, hooks=hooks)
    assert (tmp_path / "died" / "last").read_text() == "epoch-001-step-000004\n"
    run = train(continued, tmp_path, "died", resume=True, checkpoint_every=2)
    assert numbers(run) == numbers(expected)
    assert same(whole, continued)


@pytest.mark.slow
def test_a_run_that_dies_before_its_first_checkpoint_starts_from_its_beginning(
    new_model: MakeModel, tmp_path: Path
) -> None:
    class DiedError(BaseException):
        """Like a killed process."""

    def crema_step_finished(step: int) -> None:
        if step == 2:
            raise DiedError

    short: dict[str, Any] = {"epochs": 1, "eval_data": None}
    whole, continued = new_model(dropout=0.1), new_model(dropout=0.1)
    expected = train(whole, tmp_path, "whole", **short)
    with pytest.raises(DiedError):
        train(
            new_model(dropout=0.1), tmp_path, "died", **short, hooks=hooks_of(crema_step_finished=crema_step_finished)
        )
    assert not (tmp_path / "died" / "last").exists()
    assert (tmp_path / "died" / "metrics.jsonl").read_text()
    stream = io.StringIO()
    run = train(continued, tmp_path, "died", resume=True, **short, status=StatusLine(stream))
    assert "This run stopped before its first checkpoint; it starts from its beginning." in stream.getvalue()
    assert numbers(run) == numbers(expected)
    assert same(whole, continued)


def test_ctrl_c_is_a_keyboard_interrupt_that_says_how_to_go_on(new_model: MakeModel, tmp_path: Path) -> None:
    stream, before = io.StringIO(), signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt) as error:
        train(new_model(), tmp_path, "run", hooks=interrupt_at(2), status=StatusLine(stream))
    folder = tmp_path / "run"
    assert str(error.value) == (
        f"Interrupted; everything is saved in '{folder}'. Continue with resume=True and out='{folder}'."
    )
    assert "Interrupted: finishing this update, then saving. Press Ctrl-C again to stop without saving." in (
        stream.getvalue()
    )
    assert (folder / "last").read_text() == "epoch-000-step-000002\n"
    assert signal.getsignal(signal.SIGINT) is before


def test_sigterm_once_and_twice_saves_and_is_told_from_ctrl_c(new_model: MakeModel, tmp_path: Path) -> None:
    def crema_step_finished(step: int) -> None:
        if step == 2:
            os.kill(os.getpid(), signal.SIGTERM)
            os.kill(os.getpid(), signal.SIGTERM)  # a scheduler's, and its launcher's

    stream, hooks = io.StringIO(), hooks_of(crema_step_finished=crema_step_finished)
    with pytest.raises(TrainingInterrupted) as error:
        train(new_model(), tmp_path, "run", hooks=hooks, status=StatusLine(stream))
    assert exit_code(error.value) == 143
    assert str(error.value).startswith("Terminated; everything is saved in ")
    assert stream.getvalue().count("Terminated: finishing this update, then saving.") == 1
    assert (tmp_path / "run" / "last").read_text() == "epoch-000-step-000002\n"


@pytest.mark.slow
def test_a_run_stopped_in_an_evaluation_ends_with_the_numbers_of_an_uninterrupted_one(
    new_model: MakeModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, continued = new_model(dropout=0.1), new_model(dropout=0.1)
    expected = train(whole, tmp_path, "whole")
    answer = evaluation._answer_batch

    def stop(*arguments: Any) -> Any:
        os.kill(os.getpid(), signal.SIGTERM)
        return answer(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(evaluation, "_answer_batch", stop)
        with pytest.raises(TrainingInterrupted):
            train(new_model(dropout=0.1), tmp_path, "stopped", eval_batch_size=1)
    assert (tmp_path / "stopped" / "last").read_text() == "epoch-000-step-000003\n"
    run = train(continued, tmp_path, "stopped", resume=True)
    assert numbers(run) == numbers(expected)
    assert same(whole, continued)


@pytest.mark.slow
@pytest.mark.parametrize("damage", ["deleted", "another", "gone"])
def test_a_resumed_run_has_the_best_checkpoint_it_had(damage: str, new_model: MakeModel, tmp_path: Path) -> None:
    with pytest.raises(TrainingInterrupted):
        train(new_model(), tmp_path, "run", hooks=interrupt_at(4))
    folder = tmp_path / "run"
    best, last = ((folder / name).read_text() for name in ("best", "last"))
    assert best != last
    if damage == "deleted":
        (folder / "best").unlink()
    elif damage == "another":
        (folder / "best").write_text(last)
    else:
        shutil.rmtree(folder / "checkpoints" / best.strip())
        with pytest.raises(CheckpointError, match="There is no folder"):
            train(new_model(), tmp_path, "run", resume=True)
        return
    with pytest.raises(TrainingInterrupted):
        train(new_model(), tmp_path, "run", resume=True, hooks=interrupt_at(5))
    assert (folder / "best").read_text() == best


@pytest.mark.slow
def test_lost_lines_of_the_metrics_are_said(new_model: MakeModel, tmp_path: Path) -> None:
    with pytest.raises(TrainingInterrupted):
        train(new_model(), tmp_path, "run", hooks=interrupt_at(2))
    (tmp_path / "run" / "metrics.jsonl").unlink()
    stream = io.StringIO()
    train(new_model(), tmp_path, "run", resume=True, status=StatusLine(stream))
    assert "metrics.jsonl has lost lines: 0 bytes are there, " in stream.getvalue()


@pytest.mark.slow
def test_a_finished_run_continued_trains_nothing_more(new_model: MakeModel, tmp_path: Path) -> None:
    expected = train(new_model(), tmp_path, "run")
    run = train(new_model(), tmp_path, "run", resume=True)
    assert run == expected


@pytest.mark.slow
def test_the_callers_random_state_is_left_alone(new_model: MakeModel, tmp_path: Path) -> None:
    model = new_model(dropout=0.1)
    torch.manual_seed(3)
    before = torch.get_rng_state()
    train(model, tmp_path, "run")
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.slow
def test_frozen_parts_and_what_was_trainable_are_as_before(new_model: MakeModel, tmp_path: Path) -> None:
    model = new_model()
    fingerprint = model.frozen_fingerprint()
    before = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    train(model, tmp_path, "run")
    assert model.frozen_fingerprint() == fingerprint
    assert {name for name, parameter in model.named_parameters() if parameter.requires_grad} == before
    assert not model.training


def test_gradients_flow_into_what_is_trained_and_into_nothing_else(new_model: MakeModel, tmp_path: Path) -> None:
    model = new_model()
    trained, found = model.names[-1], []

    def crema_step_finished(step: int) -> None:
        found.append({key for key, one in model.trainable_parameters().items() if one.requires_grad})

    hooks = hooks_of(crema_step_finished=crema_step_finished)
    train(model, tmp_path, "run", epochs=1, eval_data=None, modalities=[trained], hooks=hooks)
    expected = {f"modalities.{trained}.{key}" for key in model.adapter_parameters(trained)}
    assert found
    assert all(names - {f"fusion.{key}" for key in model.fusion_parameters([trained])} == expected for names in found)


def test_training_lowers_the_loss(new_model: MakeModel, tmp_path: Path) -> None:
    # A frozen random language model leaves adapters little room; that training works is shown on the generated world.
    data = write_data(tmp_path / "few", 4, modalities="mo")
    run = fit(new_model(num=2), data, out=tmp_path / "run", epochs=12, batch_size=4, lr=1e-2, status=quiet())
    losses = [float(line["loss"]) for line in run.metrics if line["kind"] == "epoch"]
    assert losses[-1] < losses[0] - 0.1


def test_a_run_directory_is_what_its_docstring_says(new_model: MakeModel, tmp_path: Path) -> None:
    run = train(new_model(), tmp_path, "run")
    assert {path.name for path in run.path.iterdir()} == {
        "config.json", "environment.json", "metrics.jsonl", "checkpoints", "last", "best",
    }  # fmt: skip
    assert [line["kind"] for line in run.metrics if line["epoch"] == 0] == ["step"] * 3 + ["epoch", "valid"]
    config = json.loads((run.path / "config.json").read_text())
    assert config["modalities"] == ["main", "other", "wave", "points"]
    assert config["settings"]["batch_size"] == 2
    assert len(list((run.path / "checkpoints").iterdir())) <= 2


@pytest.mark.slow
def test_modalities_that_exit_stop_moving_and_the_last_exit_ends_the_training(
    new_model: MakeModel, tmp_path: Path
) -> None:
    # Any growth of the norm over a tiny fraction of its past counts: everything exits after the second epoch.
    model = new_model()
    run = train(model, tmp_path, "run", epochs=3, eval_data=None, **RELEASED | {"early_exit": 1e-6})
    assert run.num_steps == 6
    assert sorted(run.exited) == ["main", "other", "points", "wave"]
    assert run.exited["main"].startswith("'main' exits after epoch 2: gradient norm ")
    assert [line["kind"] for line in run.metrics].count("exit") == 4


@pytest.mark.slow
def test_a_rule_that_cannot_fire_is_said_at_the_start(
    new_model: MakeModel, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    said = io.StringIO()
    train(new_model(), tmp_path, "run", epochs=2, early_exit=0.85, eval_data=None, status=StatusLine(said))
    assert said.getvalue().startswith("early_exit=0.85 cannot shorten this run: ")


@pytest.mark.slow
def test_an_epochs_line_has_the_sub_steps_their_seconds_and_what_norms_were_compared_with(
    new_model: MakeModel, tmp_path: Path
) -> None:
    run = train(new_model(), tmp_path, "run", epochs=2, eval_data=None, **RELEASED | {"early_exit": 100.0})
    first, second = (line for line in run.metrics if line["kind"] == "epoch")
    names = ["main", "other", "points", "wave"]
    assert [first[f"sub_steps/{name}"] for name in names] == [3, 2, 2, 2], (
        "no sub-step where a minibatch lacks the modality"
    )
    assert all(float(line[f"seconds/{name}"]) > 0 for line in (first, second) for name in names)
    assert not any(key.startswith("exit_threshold/") for key in first)
    assert [second[f"exit_threshold/{name}"] for name in names] == [
        pytest.approx(100 * float(first[f"grad_norm/{name}"])) for name in names
    ]


@pytest.mark.slow
def test_training_one_modality_leaves_the_others_bit_identical(new_model: MakeModel, tmp_path: Path) -> None:
    model, before = new_model(), new_model().adapter_state_dict()
    train(model, tmp_path, "run", modalities=["wave"])
    after = model.adapter_state_dict()
    moved = {key for key in after if not torch.equal(after[key], before[key])}
    assert moved
    assert all(key.startswith(("modalities.wave.", "fusion.blocks.wave.")) for key in moved)


@pytest.mark.slow
def test_the_best_weights_are_loaded_at_the_end(
    new_model: MakeModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scores = iter([0.5, 0.9, 0.9])
    judged: list[dict[str, torch.Tensor]] = []

    def judge(model: CremaModel, *_: object, **__: object) -> EvaluationResult:
        judged.append(model.adapter_state_dict())
        return EvaluationResult(next(scores), {}, {}, 1, model.names, None, 1.0, 0.0)

    monkeypatch.setattr("crema_core.train.trainer.evaluate", judge)
    model = new_model()
    run = train(model, tmp_path, "run", epochs=3)
    kept = model.adapter_state_dict()
    assert run.best_score == 0.9
    assert all(torch.equal(kept[key], judged[1][key]) for key in kept)  # of equals, the first
    assert not all(torch.equal(kept[key], judged[2][key]) for key in kept)


def test_hooks_hear_of_every_event(new_model: MakeModel, tmp_path: Path) -> None:
    heard: list[str] = []

    def crema_train_started(trainer: Trainer) -> None:
        heard.append(f"started at {trainer.step}")

    def crema_step_finished(step: int, losses: dict[str, float]) -> None:
        heard.append(f"step {step}")
        assert all(isinstance(loss, float) for loss in losses.values())

    def crema_evaluated(metrics: dict[str, float]) -> None:
        heard.append("evaluated")
        assert "accuracy" in metrics

    def crema_checkpoint_saved(path: Path) -> None:
        heard.append(path.name)
        assert (path / "complete").exists()

    hooks = hooks_of(
        crema_train_started=crema_train_started,
        crema_step_finished=crema_step_finished,
        crema_evaluated=crema_evaluated,
        crema_checkpoint_saved=crema_checkpoint_saved,
    )
    train(new_model(), tmp_path, "run", epochs=1, checkpoint_every=2, hooks=hooks)
    assert heard == [
        "started at 0", "step 1", "step 2", "epoch-000-step-000002", "step 3", "evaluated", "epoch-001-step-000003",
    ]  # fmt: skip


@pytest.mark.slow
def test_accumulation_counts_updates_and_not_minibatches(new_model: MakeModel, tmp_path: Path) -> None:
    run = train(new_model(), tmp_path, "run", gradient_accumulation_steps=2, epochs=2)
    assert run.num_steps == 4


@pytest.mark.slow
def test_workers_and_the_cache_change_no_number(new_model: MakeModel, tmp_path: Path) -> None:
    plain = train(new_model(), tmp_path, "plain", cache="none", epochs=1)
    busy = train(new_model(), tmp_path, "busy", cache="none", num_workers=2, epochs=1)
    assert numbers(plain) == numbers(busy)


def test_training_multiplies_as_exactly_as_it_is_told_and_gives_torchs_own_setting_back(
    new_model: MakeModel, tmp_path: Path
) -> None:
    model = new_model()
    seen: set[tuple[str, str]] = set()
    for name in model.names:
        model.branch(name).adapter.projection.register_forward_hook(
            lambda module, given, out: seen.add((torch.get_float32_matmul_precision(), computed_in(model.device)))
        )
    train(model, tmp_path, "run", epochs=1, float32_matmul="high")
    assert seen == {("high", "as stored, float32 products high")}
    assert torch.get_float32_matmul_precision() == "highest"
    assert computed_in(model.device) == "as stored"


def test_without_a_cache_a_minibatch_reads_each_source_once(
    new_model: MakeModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    records = [own for own in write_records(tmp_path / "data", 2) for _ in range(4)]
    records = [replace(own, id=str(number)) for number, own in enumerate(records)]
    read: Counter[Any] = Counter()
    prepare = modality_calls.prepare

    def counted(modality, source):  # type: ignore[no-untyped-def]
        read[str(source)] += isinstance(source, str)  # others are examples, for the fingerprint
        return prepare(modality, source)

    monkeypatch.setattr(modality_calls, "prepare", counted)
    fit(new_model(), records, out=tmp_path / "run", epochs=2, batch_size=8, cache="none")
    assert +read == Counter({source: 2 for own in records for source in own.sources.values()})


@pytest.mark.slow
def test_a_new_run_is_not_written_over_an_old_one(new_model: MakeModel, tmp_path: Path) -> None:
    train(new_model(), tmp_path, "run", epochs=1)
    with pytest.raises(TrainingError) as error:
        train(new_model(), tmp_path, "run", epochs=1)
    assert str(error.value) == (
        f"'{tmp_path / 'run'}' already holds a run. A new run needs a folder of its own. Pass resume=True to continue "
        "that run, or another out=."
    )


@pytest.mark.slow
def test_a_run_is_not_continued_with_other_settings_or_data(new_model: MakeModel, tmp_path: Path) -> None:
    train(new_model(), tmp_path, "run", epochs=1)
    with pytest.raises(CheckpointError) as error:
        train(new_model(), tmp_path, "run", epochs=3, lr=0.5, log_every=9, eval_data=None, resume=True)
    digest = json.loads((tmp_path / "run" / "config.json").read_text())["eval_data"]
    assert str(error.value) == (
        "This run cannot be continued, because something changed (was -> now):\n"
        f"  eval_data: {digest} -> None\n"
        "  epochs: 1 -> 3\n"  # the learning rate may change, and is recorded
        "A continued run must agree with its config.json. Undo the change, or start a new run with another out=. "
        "Nothing was changed."
    )


@pytest.mark.slow
def test_settings_of_a_continued_run_come_from_its_config(new_model: MakeModel, tmp_path: Path) -> None:
    with pytest.raises(TrainingInterrupted):
        train(new_model(), tmp_path, "run", hooks=interrupt_at(1))
    data, valid = (tmp_path / name / "data.jsonl" for name in ("train", "valid"))
    run = fit(new_model(), data, valid, out=tmp_path / "run", resume=True, status=quiet())
    assert run.num_steps == 6


def test_a_folder_without_run_cannot_be_continued(new_model: MakeModel, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError) as error:
        train(new_model(), tmp_path, "nothing", resume=True)
    folder = tmp_path / "nothing"
    assert str(error.value) == (
        f"'{folder}' holds no run to continue (config.json: it does not exist). A run directory is what "
        "fit(out=...) wrote. Check the path, or pass resume=False to start anew. Nothing was changed."
    )


def test_a_damaged_checkpoint_changes_nothing(new_model: MakeModel, tmp_path: Path) -> None:
    with pytest.raises(TrainingInterrupted):
        train(new_model(), tmp_path, "run", hooks=interrupt_at(1))
    (tmp_path / "run" / "checkpoints" / "epoch-000-step-000001" / "complete").unlink()
    model = new_model()
    with pytest.raises(CheckpointError, match="not a completely written checkpoint"):
        train(model, tmp_path, "run", resume=True)
    assert same(model, new_model())


def test_doubtful_data_are_mentioned_and_used(new_model: MakeModel, tmp_path: Path) -> None:
    data = write_data(tmp_path / "few", 2, modalities="mo")
    data.write_text(data.read_text().replace('"s1"', '"s0"'))
    stream = io.StringIO()
    fit(new_model(num=2), data, out=tmp_path / "run", epochs=1, status=StatusLine(stream))
    assert stream.getvalue().startswith("data.jsonl: The id 's0' is used on lines 1, 2.\n")


def test_a_run_knows_where_its_data_and_model_came_from(new_model: MakeModel, tmp_path: Path) -> None:
    model = new_model()
    train(model, tmp_path, "run", epochs=1)
    config = json.loads((tmp_path / "run" / "config.json").read_text())
    assert config["inputs"] == {
        "data": str(tmp_path / "train" / "data.jsonl"),
        "eval_data": str(tmp_path / "valid" / "data.jsonl"),
    }
    assert config["model"] == json.loads(json.dumps(model.config))


@pytest.mark.slow
def test_a_modality_without_samples_is_named_before_any_work(new_model: MakeModel, tmp_path: Path) -> None:
    data = write_data(tmp_path / "few", 4, modalities="mo")
    with pytest.raises(TrainingError) as error:
        fit(new_model(), data, out=tmp_path / "run", status=quiet())
    assert str(error.value) == (
        "No sample has a source of wave, points, so these modalities would not be trained. Every trained modality "
        "needs samples. Add their files to the data, or pass modalities=['main', 'other']."
    )
    assert not (tmp_path / "run").exists()


def test_an_unknown_modality_to_train_is_answered_with_the_nearest(new_model: MakeModel, tmp_path: Path) -> None:
    with pytest.raises(TrainingError) as error:
        train(new_model(), tmp_path, "run", modalities=["wav"])
    assert str(error.value) == (
        "modalities names 'wav', which this model does not have. It has: main, other, wave, points. Did you mean "
        "'wave'? Correct the name, or add the modality with model.add_modality('wav')."
    )


def test_no_samples_are_refused(new_model: MakeModel, tmp_path: Path) -> None:
    with pytest.raises(DataFileError) as error:
        fit(new_model(), [], out=tmp_path / "run", status=quiet())
    assert str(error.value) == "There is nothing to train on: the data have no samples. Give at least one."
