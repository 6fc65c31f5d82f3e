import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crema_core.train.early_exit import EarlyExit, Exit, exit_start_epoch, training_order, why_no_exit
from crema_core.train.settings import TrainSettings

GOLDEN = json.loads((Path(__file__).parent / "golden" / "early_exit.json").read_text())


def play(
    phases: EarlyExit, norms: dict[str, list[list[float]]], num_epochs: int, losses: Sequence[float] = ()
) -> dict[str, int]:
    for epoch in range(num_epochs):
        for step in range(len(norms[phases.order[0]][epoch])):
            for name in phases.active:
                phases.record(name, norms[name][epoch][step], losses[epoch] if losses else 1.0)
        phases.end_epoch(epoch)
    return {name: phases.exits[name].epoch if name in phases.exits else -1 for name in phases.order}


@pytest.mark.parametrize("run", GOLDEN["runs"].values(), ids=GOLDEN["runs"].keys())
def test_exits_fall_where_the_released_code_puts_them(run: dict[str, Any]) -> None:
    phases = EarlyExit(tuple(run["exit_epoch"]), tau=run["tau"], start_epoch=5, value=run["value"], reference="all")
    assert play(phases, GOLDEN["norms"], run["epochs"]) == run["exit_epoch"]


def test_the_paper_tests_every_epoch_but_the_first() -> None:
    phases = EarlyExit(("a", "b"), tau=1.8, reference="all")
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
    phases = EarlyExit(("a",), tau=1.8, reference="all")
    assert play(phases, {"a": [[norm] for norm in norms]}, len(norms)) == {"a": exit_epoch}
    if mean is not None:
        assert phases.exits == {"a": Exit("a", exit_epoch, norms[exit_epoch], mean, exit_epoch, 1.8)}
        assert phases.active == ()


@pytest.mark.parametrize(("value", "history"), [("mean", [2.0, 4.0]), ("last", [3.0, 5.0])])
def test_the_value_of_an_epoch_is_its_mean_or_its_last(value: Any, history: list[float]) -> None:
    phases = EarlyExit(("a",), value=value)
    assert play(phases, {"a": [[1.0, 3.0], [3.0, 5.0]]}, 2) == {"a": -1}
    assert phases.history == {"a": history}
    assert phases.last_epoch == {"a": history[-1]}


def test_epochs_before_the_first_tested_one_count_in_the_mean() -> None:
    norms = {"a": [[1.0], [9.0], [1.0], [9.0], [9.1]]}
    phases = EarlyExit(("a",), tau=1.8, start_epoch=3, reference="all")
    assert play(phases, norms, 5) == {"a": 3}
    assert phases.exits["a"].mean == pytest.approx(11 / 3)


@pytest.mark.parametrize(
    ("norms", "exit_epoch", "num_epochs"),
    [
        ([4.0, 2.0, 2.0, 2.5], 3, 3),  # 2.5 > 0.9 x 8/3: it declines no more
        ([4.0, 2.0, 2.0, 2.3], -1, None),  # 2.3 < 0.9 x 8/3
        ([1.0, 2.0, 4.0, 8.0, 16.0], -1, None),  # discovered all the time: nothing is tested while it grows
        ([1.0, 1.0, 8.0, 4.0, 3.0, 4.6], 5, 3),  # 4.6 > 0.9 x 5, the mean from the peak on, not of all (3.4)
        ([1.0, 1.0, 8.0, 4.0, 5.5, 3.0], -1, None),  # 5.5 > 0.9 x 6, but two epochs from the peak are too few
        ([4.0, 2.0, 4.0, 2.0, 2.0, 2.5], 5, 3),  # of two equal peaks the later one
    ],
)
def test_from_the_peak_on_the_decline_is_compared_and_growth_is_not(
    norms: list[float], exit_epoch: int, num_epochs: int | None
) -> None:
    phases = EarlyExit(("a",), tau=0.9, patience=3)
    assert play(phases, {"a": [[norm] for norm in norms]}, len(norms)) == {"a": exit_epoch}
    if num_epochs is not None:
        assert phases.exits["a"].num_epochs == num_epochs
        assert phases.exits["a"].mean == pytest.approx(sum(norms[exit_epoch - num_epochs : exit_epoch]) / num_epochs)


@given(st.lists(st.floats(1e-6, 100), min_size=1, max_size=12), st.floats(0.1, 2), st.floats(1e-3, 1e3))
def test_the_rule_does_not_depend_on_the_scale_of_the_loss(norms: list[float], tau: float, scale: float) -> None:
    # A factor that is a power of two is exact in floating point.
    scale = 2.0 ** round(math.log2(scale))
    exits = [
        play(EarlyExit(("a",), tau=tau), {"a": [[own] for own in values]}, len(values))
        for values in (norms, [scale * norm for norm in norms])
    ]
    assert exits[0] == exits[1]


@pytest.mark.parametrize(
    ("losses", "exit_epoch"),
    [
        ([1.0, 1.0, 1.0, 0.91, 0.91, 0.91], 3),  # 9% below the three before
        ([1.0, 1.0, 1.0, 0.89, 0.89, 0.89], 4),  # 11% below, then 7% below 0.963
        ([9.0, 1.0, 1.0, 1.0, 1.0, 1.0], 4),  # far below the first of the three, which is none of them an epoch later
        ([1.0, 0.8, 0.6, 0.4, 0.3, 0.2], -1),  # falls to the end
        ([1.0, 1.0, 1.0, 5.0, 5.0, 5.0], 3),  # a growing loss holds nobody
    ],
)
def test_nobody_exits_while_the_loss_still_falls(losses: list[float], exit_epoch: int) -> None:
    norms = {"a": [[own] for own in (4.0, 2.0, 2.0, 3.0, 3.0, 3.0)]}
    phases = EarlyExit(("a",), tau=0.9, patience=3)
    assert play(phases, norms, 6, losses) == {"a": exit_epoch}
    free = EarlyExit(("a",), tau=0.9, patience=3, loss_drop=None)
    assert play(free, norms, 6, losses) == {"a": 3}


def test_who_is_held_by_the_loss_is_kept_for_that_epoch() -> None:
    phases = EarlyExit(("a", "b"), tau=0.9, patience=1, start_epoch=1)
    for loss in (1.0, 0.5):
        phases.record("a", 1.0, loss)
        phases.record("b", 1.0, 1.0)
        exits = phases.end_epoch(0 if loss == 1.0 else 1)
    assert [found.modality for found in exits] == ["b"]
    assert phases.held == ("a",)
    phases.record("a", 1.0, 1.0)
    assert [found.modality for found in phases.end_epoch(2)] == ["a"]
    assert phases.held == ()


def test_what_was_compared_is_kept_for_the_epochs_that_were_tested() -> None:
    phases = EarlyExit(("a",), tau=0.5, start_epoch=2, reference="all")
    found = []
    for epoch, norm in enumerate((2.0, 4.0, 1.0)):
        phases.record("a", norm, 1.0)
        phases.end_epoch(epoch)
        found.append(phases.thresholds)
    assert found == [{}, {}, {"a": 1.5}]


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"early_exit": None, "epochs": 1}, None),
        ({"early_exit": 0.9, "epochs": 7}, None),
        ({"early_exit": 0.9, "epochs": 6}, "can exit is number 6, and the run has 6. Set epochs to 7 or more"),
        ({"early_exit": 0.9, "epochs": 4, "early_exit_patience": 2}, None),
        ({"early_exit": 0.9, "epochs": 10, "early_exit_start_epoch": 9}, "Set epochs to 11 or more"),
        ({"early_exit": 0.9, "epochs": 10, "early_exit_start_epoch": 8}, None),
        ({"early_exit": 1.8, "epochs": 3, "early_exit_reference": "all"}, None),
        ({"early_exit": 1.8, "epochs": 2, "early_exit_reference": "all"}, "Set epochs to 3 or more"),
        ({"early_exit": 1.8, "early_exit_metric": "adapter", "early_exit_reference": "all"}, "has never ended"),
        ({"early_exit": 0.8, "early_exit_metric": "adapter", "early_exit_reference": "all"}, None),
    ],
)
def test_a_rule_that_cannot_fire_is_found(settings: dict[str, Any], said: str | None) -> None:
    reason = why_no_exit(TrainSettings(**settings))
    assert (reason is None) == (said is None)
    assert said is None or said in str(reason)


@given(st.integers(1, 12), st.integers(1, 5), st.integers(1, 12))
def test_what_is_said_of_a_rule_that_cannot_fire_is_so(epochs: int, patience: int, start_epoch: int) -> None:
    settings = TrainSettings(
        early_exit=1e-6, epochs=epochs, early_exit_patience=patience, early_exit_start_epoch=start_epoch
    )
    phases = EarlyExit(("a",), tau=1e-6, start_epoch=start_epoch, patience=patience)
    exit_epoch = play(phases, {"a": [[float(100 - epoch)] for epoch in range(epochs)]}, epochs)["a"]
    assert (why_no_exit(settings) is None) == (-1 < exit_epoch < epochs - 1)


def test_a_quarter_of_the_epochs_is_not_tested_unless_named() -> None:
    assert exit_start_epoch(TrainSettings(epochs=20)) == 5
    assert exit_start_epoch(TrainSettings(epochs=3)) == 1
    assert exit_start_epoch(TrainSettings(epochs=20, early_exit_start_epoch=2)) == 2


def test_who_exits_is_returned_once_in_order_and_trains_no_more() -> None:
    phases = EarlyExit(("b", "a"), tau=1.5, reference="all")
    for epoch, norm in enumerate((1.0, 2.0)):
        for name in ("a", "b"):
            phases.record(name, norm, 1.0)
        exits = phases.end_epoch(epoch)
    assert [found.modality for found in exits] == ["b", "a"]
    assert phases.end_epoch(2) == ()
    assert phases.last_epoch == {}


def test_a_value_equal_to_tau_times_the_mean_does_not_exit() -> None:
    phases = EarlyExit(("a",), tau=2.0, reference="all")
    assert play(phases, {"a": [[1.0], [2.0]]}, 2) == {"a": -1}


def test_nobody_exits_without_tau() -> None:
    phases = EarlyExit(("a",))
    assert play(phases, {"a": [[1.0], [100.0]]}, 2) == {"a": -1}


def test_an_exit_says_why() -> None:
    assert str(Exit("a", 3, 2.0, 1.0, 3, 1.8)) == (
        "'a' exits after epoch 4: gradient norm 2 > 1.8 x 1, the mean of the 3 epochs before."
    )


def test_an_epoch_without_updates_of_a_modality_leaves_its_history_alone() -> None:
    phases = EarlyExit(("a", "b"), tau=1.5, reference="all")
    phases.record("a", 1.0, 1.0)
    phases.record("b", 1.0, 1.0)
    phases.end_epoch(0)
    phases.record("b", 1.0, 1.0)
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
                    phases.record(name, norm, 1 + norm)
        exited = set(whole.exits)
        assert whole.end_epoch(epoch) == stopped.end_epoch(epoch)
        assert exited <= set(whole.exits)
    assert whole.state_dict() == stopped.state_dict()


def test_training_order_is_the_models_whatever_order_was_asked_for() -> None:
    assert training_order(("a", "b", "c"), ["c", "a"]) == ("a", "c")
    assert training_order(("a", "b"), None) == ("a", "b")
