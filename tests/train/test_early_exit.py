import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crema_core.train.early_exit import EarlyExit, Exit, training_order

GOLDEN = json.loads((Path(__file__).parent / "golden" / "early_exit.json").read_text())


def play(phases: EarlyExit, norms: dict[str, list[list[float]]], num_epochs: int) -> dict[str, int]:
    for epoch in range(num_epochs):
        for step in range(len(norms[phases.order[0]][epoch])):
            for name in phases.active:
                phases.record(name, norms[name][epoch][step])
        phases.end_epoch(epoch)
    return {name: phases.exits[name].epoch if name in phases.exits else -1 for name in phases.order}


@pytest.mark.parametrize("run", GOLDEN["runs"].values(), ids=GOLDEN["runs"].keys())
def test_exits_fall_where_the_released_code_puts_them(run: dict[str, Any]) -> None:
    phases = EarlyExit(tuple(run["exit_epoch"]), tau=run["tau"], start_epoch=5, value=run["value"])
    assert play(phases, GOLDEN["norms"], run["epochs"]) == run["exit_epoch"]


def test_the_paper_tests_every_epoch_but_the_first() -> None:
    phases = EarlyExit(("a", "b"), tau=1.8)
    assert play(phases, {"a": [[9.0], [1.0], [1.0]], "b": [[1.0], [2.0], [1.0]]}, 3) == {"a": -1, "b": 1}


@pytest.mark.parametrize(
    ("norms", "exit_epoch", "mean"),
    [
        ([1.0, 1.5, 2.5], 2, 1.25),  # 2.5 > 1.8 x 1.25, though not > 1.8 x 1.5
        ([1.5, 1.0, 1.9], -1, None),  # 1.9 > 1.8 x 1.0, but not > 1.8 x 1.25
        ([1.0, 3.0, 1.0], 1, 1.0),
        ([4.0, 1.0, 1.0, 3.5], -1, None),  # 3.5 > 1.8 x 1, the least, but not > 1.8 x 2
    ],
)
def test_an_epoch_is_compared_with_the_mean_of_all_before_it(
    norms: list[float], exit_epoch: int, mean: float | None
) -> None:
    phases = EarlyExit(("a",), tau=1.8)
    assert play(phases, {"a": [[norm] for norm in norms]}, len(norms)) == {"a": exit_epoch}
    if mean is not None:
        assert phases.exits == {"a": Exit("a", exit_epoch, norms[exit_epoch], mean, 1.8)}
        assert phases.active == ()


@pytest.mark.parametrize(("value", "history"), [("mean", [2.0, 4.0]), ("last", [3.0, 5.0])])
def test_the_value_of_an_epoch_is_its_mean_or_its_last(value: Any, history: list[float]) -> None:
    phases = EarlyExit(("a",), value=value)
    assert play(phases, {"a": [[1.0, 3.0], [3.0, 5.0]]}, 2) == {"a": -1}
    assert phases.history == {"a": history}
    assert phases.last_epoch == {"a": history[-1]}


def test_epochs_before_the_first_tested_one_count_in_the_mean() -> None:
    norms = {"a": [[1.0], [9.0], [1.0], [9.0], [9.1]]}
    phases = EarlyExit(("a",), tau=1.8, start_epoch=3)
    assert play(phases, norms, 5) == {"a": 3}
    assert phases.exits["a"].mean == pytest.approx(11 / 3)


def test_who_exits_is_returned_once_in_order_and_trains_no_more() -> None:
    phases = EarlyExit(("b", "a"), tau=1.5)
    for epoch, norm in enumerate((1.0, 2.0)):
        for name in ("a", "b"):
            phases.record(name, norm)
        exits = phases.end_epoch(epoch)
    assert [found.modality for found in exits] == ["b", "a"]
    assert phases.end_epoch(2) == ()
    assert phases.last_epoch == {}


def test_a_value_equal_to_tau_times_the_mean_does_not_exit() -> None:
    phases = EarlyExit(("a",), tau=2.0)
    assert play(phases, {"a": [[1.0], [2.0]]}, 2) == {"a": -1}


def test_nobody_exits_without_tau() -> None:
    phases = EarlyExit(("a",))
    assert play(phases, {"a": [[1.0], [100.0]]}, 2) == {"a": -1}


def test_an_exit_says_why() -> None:
    assert str(Exit("a", 3, 2.0, 1.0, 1.8)) == (
        "'a' exits after epoch 3: gradient norm 2 > 1.8 x 1, the mean of the epochs before."
    )


def test_an_epoch_without_updates_of_a_modality_leaves_its_history_alone() -> None:
    phases = EarlyExit(("a", "b"), tau=1.5)
    phases.record("a", 1.0)
    phases.record("b", 1.0)
    phases.end_epoch(0)
    phases.record("b", 1.0)
    assert phases.end_epoch(1) == ()
    assert phases.history == {"a": [1.0], "b": [1.0, 1.0]}
    assert phases.last_epoch == {"b": 1.0}


NORMS = st.lists(st.lists(st.floats(0, 100), min_size=2, max_size=2), min_size=1, max_size=8)


@given(NORMS, st.integers(0, 7), st.floats(0.5, 3))
def test_stopping_and_restoring_at_any_epoch_changes_no_decision(
    norms: list[list[float]], stop: int, tau: float
) -> None:
    whole, stopped = EarlyExit(("a", "b"), tau=tau), EarlyExit(("a", "b"), tau=tau)
    for epoch, (a, b) in enumerate(norms):
        if epoch == stop:
            state = json.loads(json.dumps(stopped.state_dict()))
            stopped = EarlyExit(("a", "b"), tau=tau)
            stopped.load_state_dict(state)
        for phases in (whole, stopped):
            for name, norm in (("a", a), ("b", b)):
                if name in phases.active:
                    phases.record(name, norm)
        exited = set(whole.exits)
        assert whole.end_epoch(epoch) == stopped.end_epoch(epoch)
        assert exited <= set(whole.exits)
    assert whole.state_dict() == stopped.state_dict()


def test_training_order_is_the_models_whatever_order_was_asked_for() -> None:
    assert training_order(("a", "b", "c"), ["c", "a"]) == ("a", "c")
    assert training_order(("a", "b"), None) == ("a", "b")
