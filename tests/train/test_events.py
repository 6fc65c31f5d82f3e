"""Hooks of a training: they see gradients and tokens, change no bit, and steer only through their control."""

from __future__ import annotations

import io
import json
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from crema_core.common.progress import StatusLine
from crema_core.data.dataset import TrainBatch
from crema_core.errors import HookError
from crema_core.plugins.control import RunControl, RunControls
from crema_core.plugins.hooks import Hooks, hookimpl
from crema_core.report.run_report import write_run_report
from crema_core.tokens import ModalityTokens
from crema_core.train import events
from crema_core.train.checkpoints import pointed, read_checkpoint
from crema_core.train.run import LAST, Run
from crema_core.train.trainer import Trainer
from tests.train.conftest import MakeModel
from tests.train.test_fit import numbers, train


def plugin(*functions: Callable[..., None], strict: bool = True, name: str = "test") -> Hooks:
    """Return hooks of one plugin with these functions, each named as its hook."""
    hooks = Hooks(strict=strict)
    add(hooks, *functions, name=name)
    return hooks


def add(hooks: Hooks, *functions: Callable[..., None], name: str) -> None:
    body = {function.__name__: staticmethod(hookimpl(function)) for function in functions}
    hooks.add(type("Plugin", (), body), name=name)


def weights(model: Any) -> dict[str, Tensor]:
    return {key: value.clone() for key, value in model.adapter_state_dict().items()}


def assert_same_bits(one: Mapping[str, Tensor], two: Mapping[str, Tensor]) -> None:
    assert one.keys() == two.keys()
    assert [key for key in one if not torch.equal(one[key], two[key])] == []


def of_kind(run: Run, kind: str) -> list[dict[str, Any]]:
    return [dict(line) for line in run.metrics if line["kind"] == kind]


def test_gradients_are_shown_in_each_sub_step_with_their_norms(new_model: MakeModel, tmp_path: Path) -> None:
    seen: list[tuple[int, tuple[str, ...], float]] = []

    def crema_gradients_ready(
        trainer: Trainer,
        step: int,
        modalities: Sequence[str],
        gradients: Mapping[str, Tensor],
        norms: Mapping[str, float],
    ) -> None:
        parameters = trainer.model.trainable_parameters()
        assert gradients.keys() == norms.keys() == {name for name, own in parameters.items() if own.grad is not None}
        for name, gradient in gradients.items():
            assert gradient.shape == parameters[name].shape
            assert not gradient.requires_grad
            assert norms[name] == pytest.approx(float(torch.linalg.vector_norm(gradient)), rel=1e-5)
        measured = trainer.model.lora_parameters(modalities[0]).values()
        own = [norms[name] for name, parameter in parameters.items() if any(parameter is one for one in measured)]
        seen.append((step, tuple(modalities), sum(norm**2 for norm in own) ** 0.5))

    run = train(new_model(), tmp_path, "run", epochs=1, max_grad_norm=1e-4, hooks=plugin(crema_gradients_ready))
    logged = of_kind(run, "step")
    expected = [
        (line["step"], (key.partition("/")[2],), pytest.approx(value, rel=1e-5))  # not the clipped ones
        for line in logged
        for key, value in line.items()
        if key.startswith("grad_norm/")
    ]
    assert seen == expected
    assert len({modalities for _, modalities, _ in seen}) > 1


def test_joint_training_shows_the_gradients_of_all_modalities_once(new_model: MakeModel, tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []

    def crema_gradients_ready(trainer: Trainer, step: int, modalities: Sequence[str]) -> None:
        assert tuple(modalities) == trainer.model.names
        seen.append((step, len(modalities)))

    hooks = plugin(crema_gradients_ready)
    train(new_model(), tmp_path, "run", epochs=1, mode="joint", modality_dropout=0.0, batch_size=6, hooks=hooks)
    assert seen == [(1, 4)]


def test_the_batch_and_its_tokens_are_shown_before_fusion_part_by_part(new_model: MakeModel, tmp_path: Path) -> None:
    seen: list[tuple[int, tuple[str, ...], tuple[int, ...]]] = []

    def crema_tokens_ready(
        trainer: Trainer,
        step: int,
        modalities: Sequence[str],
        batch: TrainBatch,
        samples: range,
        tokens: Mapping[str, ModalityTokens],
    ) -> None:
        assert len({own.values.shape[-1] for own in tokens.values()}) == 1
        for own in tokens.values():
            assert own.values.shape[0] == own.rows.numel()
            assert not own.values.requires_grad
            assert set(own.rows.tolist()) <= set(range(len(samples)))
        for name, rows in batch.present.items():
            here = [int(row) - samples.start for row in rows if row in samples]
            assert tokens[name].rows.tolist() == here if here else name not in tokens
        seen.append((step, tuple(modalities), tuple(samples)))

    hooks = plugin(crema_tokens_ready)
    train(new_model(), tmp_path, "run", epochs=1, micro_batch_size=1, modalities=["wave"], hooks=hooks)
    assert [entry for entry in seen if entry[0] == seen[0][0]] == [
        (seen[0][0], ("wave",), (0,)),
        (seen[0][0], ("wave",), (1,)),
    ]


@pytest.mark.slow
def test_hooks_that_look_change_no_bit_of_a_training(new_model: MakeModel, tmp_path: Path) -> None:
    """With dropout, whose random numbers a hook must not use up."""
    looked: list[float] = []

    def crema_train_started(trainer: Trainer, control: RunControl) -> None:
        torch.rand(3)
        looked.append(control.lr_factor)

    def crema_tokens_ready(tokens: Mapping[str, ModalityTokens]) -> None:
        looked.extend(float((own.values + torch.randn_like(own.values)).sum()) for own in tokens.values())

    def crema_gradients_ready(gradients: Mapping[str, Tensor], norms: Mapping[str, float]) -> None:
        looked.extend([*norms.values(), float(torch.rand(1))])

    def crema_step_finished(trainer: Trainer, control: RunControl) -> None:
        torch.manual_seed(0)
        control.state["looked"] = len(looked)
        assert not torch.is_grad_enabled()

    plain, watched = new_model(dropout=0.3), new_model(dropout=0.3)
    alone = train(plain, tmp_path, "plain", epochs=1)
    hooks = plugin(crema_train_started, crema_tokens_ready, crema_gradients_ready, crema_step_finished)
    beside = train(watched, tmp_path, "watched", epochs=1, hooks=hooks)
    assert len(looked) > 20
    assert_same_bits(weights(plain), weights(watched))
    assert numbers(alone) == numbers(beside)


def test_nothing_is_computed_where_nothing_listens(
    new_model: MakeModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[str] = []

    def spy(name: str) -> None:
        original = getattr(events, name)
        monkeypatch.setattr(events, name, lambda *given: calls.append(name) or original(*given))

    spy("norms_of")
    spy("tensors_in")
    spy("versions")
    model = new_model()
    monkeypatch.setattr(Hooks, "call", lambda *_, **__: calls.append("call") or [])
    monkeypatch.setattr(RunControls, "take", lambda *_: calls.append("take") or [])
    train(model, tmp_path, "run", epochs=1)
    assert calls == []


@pytest.mark.slow
def test_norms_are_computed_only_for_hooks_that_take_them(
    new_model: MakeModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[int] = []

    def crema_gradients_ready(gradients: Mapping[str, Tensor]) -> None:
        seen.append(len(gradients))

    def refuse(gradients: object) -> dict[str, float]:
        raise AssertionError("nobody asked for norms")

    monkeypatch.setattr(events, "norms_of", refuse)
    train(new_model(), tmp_path, "run", epochs=1, hooks=plugin(crema_gradients_ready))
    assert min(seen) > 1


@pytest.mark.parametrize("what", ["gradient", "tokens", "rows"])
@pytest.mark.parametrize("fails", [False, True])
def test_a_change_in_place_ends_the_run_and_names_the_plugin(
    what: str, fails: bool, new_model: MakeModel, tmp_path: Path
) -> None:
    def crema_gradients_ready(gradients: Mapping[str, Tensor]) -> None:
        if what == "gradient":
            next(iter(gradients.values())).mul_(0.5)
            assert not fails, "after the change"

    def crema_tokens_ready(tokens: Mapping[str, ModalityTokens], batch: TrainBatch) -> None:
        if what == "tokens":
            next(iter(tokens.values())).values.zero_()
            assert not fails, "after the change"
        elif what == "rows":
            next(iter(batch.present.values())).add_(0)
            assert not fails, "after the change"

    hooks = plugin(crema_gradients_ready, crema_tokens_ready, strict=False, name="vandal")
    event = "crema_gradients_ready" if what == "gradient" else "crema_tokens_ready"
    with warnings.catch_warnings(record=True) as reported, pytest.raises(HookError) as caught:
        train(new_model(), tmp_path, "run", epochs=1, hooks=hooks)
    assert ["after the change" in str(own.message) for own in reported] == [True] * fails
    assert str(caught.value) == (
        f"The hook {event} of vandal changed a tensor it was given to read, so the run would continue with "
        "other numbers. Work on a copy (tensor.clone()) in the hook. "
        "Switch the plugin off: CREMA_PLUGINS_DISABLE=vandal"
    )


def test_tokens_by_modality_cannot_be_replaced(new_model: MakeModel, tmp_path: Path) -> None:
    def crema_tokens_ready(tokens: dict[str, ModalityTokens]) -> None:
        tokens.clear()

    with pytest.raises(HookError, match="failed: AttributeError: 'mappingproxy' object has no attribute 'clear'"):
        train(new_model(), tmp_path, "run", epochs=1, hooks=plugin(crema_tokens_ready))


def lr_of(run: Run) -> dict[int, float]:
    return {int(line["step"]): float(line["lr"]) for line in of_kind(run, "step")}


def halving(control_at: int = 3) -> Hooks:
    """Halve the rate after a step, and count steps in the state."""

    def crema_step_finished(step: int, control: RunControl) -> None:
        control.state["steps"] = control.state.get("steps", 0) + 1
        if control.state["steps"] == control_at:
            control.set_lr_factor(0.5, reason="three steps")

    return plugin(crema_step_finished, name="halving")


@pytest.mark.slow
def test_a_factor_of_the_learning_rate_holds_from_the_next_update_on(new_model: MakeModel, tmp_path: Path) -> None:
    plain = lr_of(train(new_model(), tmp_path, "plain"))
    run = train(new_model(), tmp_path, "halved", hooks=halving())
    assert lr_of(run) == {step: lr * (0.5 if step > 3 else 1.0) for step, lr in plain.items()}
    (change,) = of_kind(run, "lr_factor")
    assert change == {
        "kind": "lr_factor", "epoch": 0, "step": 3, "by": "halving", "reason": "three steps", "factor": 0.5,
        "lr_factor": 0.5,
    }  # fmt: skip


@pytest.mark.slow
def test_factors_of_several_plugins_are_multiplied(new_model: MakeModel, tmp_path: Path) -> None:
    def crema_train_started(control: RunControl) -> None:
        control.set_lr_factor(0.25, reason="careful")

    hooks = halving()
    add(hooks, crema_train_started, name="careful")
    plain = lr_of(train(new_model(), tmp_path, "plain"))
    run = train(new_model(), tmp_path, "both", hooks=hooks)
    assert lr_of(run) == {step: lr * (0.125 if step > 3 else 0.25) for step, lr in plain.items()}
    assert [line["lr_factor"] for line in of_kind(run, "lr_factor")] == [0.25, 0.125]


@pytest.mark.slow
@pytest.mark.parametrize(
    "stop_at", [pytest.param(2, marks=pytest.mark.slow), 4, pytest.param(6, marks=pytest.mark.slow)]
)
def test_a_resumed_run_has_the_rates_weights_and_lines_of_an_uninterrupted_one(
    stop_at: int, new_model: MakeModel, tmp_path: Path
) -> None:
    whole_model, model = new_model(dropout=0.2), new_model(dropout=0.2)
    whole = train(whole_model, tmp_path, "whole", hooks=halving(), load_best=False)
    hooks = halving()

    def crema_step_finished(step: int, control: RunControl) -> None:
        if step == stop_at and not control.state.get("stopped"):
            control.state["stopped"] = True
            control.stop("to be resumed")

    add(hooks, crema_step_finished, name="stopping")
    first = train(model, tmp_path, "parts", hooks=hooks, load_best=False)
    assert first.stopped == f"stopping stopped the run after update {stop_at}: to be resumed"
    assert first.num_steps == stop_at
    fresh = new_model(dropout=0.2)
    again = halving()
    add(again, crema_step_finished, name="stopping")
    second = train(fresh, tmp_path, "parts", hooks=again, resume=True, load_best=False)
    assert second.stopped is None
    assert [line for line in numbers(second) if line["kind"] != "stop"] == numbers(whole)
    assert [line["step"] for line in of_kind(second, "stop")] == [stop_at]
    assert_same_bits(weights(whole_model), weights(fresh))


@pytest.mark.slow
def test_a_factor_stays_when_its_plugin_is_gone_and_the_resumed_run_says_so(
    new_model: MakeModel, tmp_path: Path
) -> None:
    hooks = halving()

    def crema_step_finished(step: int, control: RunControl) -> None:
        if step == 4:
            control.stop("enough")

    add(hooks, crema_step_finished, name="stopping")
    train(new_model(), tmp_path, "run", hooks=hooks)
    said = io.StringIO()
    run = train(new_model(), tmp_path, "run", resume=True, status=StatusLine(said))
    plain = lr_of(train(new_model(), tmp_path, "plain"))
    assert lr_of(run)[5] == plain[5] * 0.5
    assert (
        "The learning rate stays multiplied by 0.5, as halving has set it; its hooks are not loaded now."
        in " ".join(said.getvalue().split())
    )


@pytest.mark.slow
def test_a_run_stopped_after_an_evaluation_ends_with_its_checkpoint_and_report(
    new_model: MakeModel, tmp_path: Path
) -> None:
    def crema_evaluated(trainer: Trainer, metrics: Mapping[str, float], control: RunControl) -> None:
        control.stop("good enough")

    run = train(new_model(), tmp_path, "run", epochs=5, hooks=plugin(crema_evaluated, name="judge"))
    assert run.num_steps == 3
    assert run.stopped == "judge stopped the run after update 3: good enough"
    last = pointed(run.path, LAST)
    assert last is not None
    assert last.name == "epoch-001-step-000003"
    report = write_run_report(run.path, title="t").read_text(encoding="utf-8")
    assert "judge stopped the run after update 3 (epoch 1): good enough." in report
    resumed = train(new_model(), tmp_path, "run", epochs=5, resume=True)
    assert resumed.num_steps == 15
    report = write_run_report(run.path, title="t").read_text(encoding="utf-8")
    assert "judge stopped the run after update 3 (epoch 1): good enough; it was resumed." in report


@pytest.mark.slow
def test_a_run_stopped_before_its_first_update_has_a_report_and_can_be_resumed(
    new_model: MakeModel, tmp_path: Path
) -> None:
    def crema_train_started(control: RunControl) -> None:
        control.stop("not today")

    run = train(new_model(), tmp_path, "run", epochs=1, hooks=plugin(crema_train_started))
    assert (run.num_steps, run.stopped) == (0, "test stopped the run after update 0: not today")
    assert "not today" in write_run_report(run.path, title="t").read_text(encoding="utf-8")
    assert train(new_model(), tmp_path, "run", epochs=1, resume=True).num_steps == 3


@pytest.mark.parametrize("factor", [-1.0, float("nan"), float("inf")])
def test_a_factor_that_is_no_factor_is_refused_and_changes_nothing(factor: float) -> None:
    control = RunControl("x")
    with pytest.raises(HookError, match=r"The factor .* of the learning rate is not accepted"):
        control.set_lr_factor(factor, reason="?")
    assert control.lr_factor == 1.0


def test_state_that_is_no_json_is_reported_and_the_run_continues(new_model: MakeModel, tmp_path: Path) -> None:
    def crema_step_finished(control: RunControl) -> None:
        control.state["thing"] = object()

    hooks = plugin(crema_step_finished, strict=False, name="odd")
    with pytest.warns(UserWarning, match=r"odd: its control\.state cannot be saved") as caught:
        run = train(new_model(), tmp_path, "run", epochs=1, checkpoint_every=1, hooks=hooks)
    assert len(caught) == 1
    last = pointed(run.path, LAST)
    assert last is not None
    assert read_checkpoint(last).state["hooks"] == {}


def test_every_plugin_has_a_state_of_its_own(new_model: MakeModel, tmp_path: Path) -> None:
    def crema_step_finished(step: int, control: RunControl) -> None:
        control.state["step"] = step

    def crema_train_started(control: RunControl) -> None:
        assert control.state == {}

    hooks = plugin(crema_step_finished, name="one")
    add(hooks, crema_train_started, name="two")
    run = train(new_model(), tmp_path, "run", epochs=1, hooks=hooks)
    last = pointed(run.path, LAST)
    assert last is not None
    state = json.loads((last / "state.json").read_text(encoding="utf-8"))
    assert state["hooks"] == {"one": {"name": "one", "lr_factor": 1.0, "state": {"step": 3}}}
