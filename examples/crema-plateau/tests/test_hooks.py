"""Accuracies come in; factors of the learning rate and a stop come out."""

import pytest

from crema_core.plugins.control import RunControl
from crema_core.plugins.hooks import Hooks
from crema_plateau import hooks


def after(*accuracies: float, control: RunControl | None = None) -> RunControl:
    control = control or RunControl("crema-plateau")
    run = Hooks(strict=True)
    run.add(hooks, name="plateau")
    for accuracy in accuracies:
        run.call("crema_evaluated", trainer=None, metrics={"accuracy": accuracy}, control=control)
    return control


def stops(control: RunControl) -> list[str]:
    return [change.reason for change in control._changes if change.kind == "stop"]


def test_nothing_happens_while_accuracy_rises() -> None:
    control = after(0.1, 0.2, 0.2, 0.3)
    assert (control.lr_factor, stops(control)) == (1.0, [])


def test_the_rate_is_halved_twice_and_then_the_run_is_stopped() -> None:
    control = after(0.5, 0.5, 0.4)
    assert control.lr_factor == 0.5
    control = after(0.5, 0.4, control=control)
    assert (control.lr_factor, stops(control)) == (0.25, [])
    control = after(0.5, 0.4, control=control)
    assert stops(control) == ["accuracy has not risen above 50.0% in 6 evaluations"]


def test_a_resumed_run_waits_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(hooks.STOP_AFTER, "1")
    stopped = after(0.5, 0.5)
    resumed = RunControl("crema-plateau")
    resumed.state = dict(stopped.state)
    assert resumed.state == {"best": 0.5, "waited": 0}


def test_an_evaluation_alone_changes_nothing() -> None:
    run = Hooks(strict=True)
    run.add(hooks, name="plateau")
    assert run.call("crema_evaluated", trainer=None, metrics={"accuracy": 0.5}, control=None) == []
