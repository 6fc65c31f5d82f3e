import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crema_core.errors import TrainingError
from crema_core.train.schedule import Position, epoch_cosine, make_schedule, step_cosine
from crema_core.train.settings import train_settings

GOLDEN = json.loads((Path(__file__).parent / "golden" / "schedule.json").read_text())


@pytest.mark.parametrize("case", GOLDEN, ids=lambda case: f"warmup {case['warmup_steps']}")
def test_the_epoch_schedule_is_the_released_one(case: dict[str, Any]) -> None:
    # The reference marks "no warm-up start" with -1 and then begins at the full rate.
    start = case["warmup_start_lr"] if case["warmup_start_lr"] >= 0 else case["init_lr"]
    for epoch, step, expected in case["epoch_step_lr"]:
        rate = epoch_cosine(
            Position(epoch, step, epoch * case["iters_per_epoch"] + step),
            lr=case["init_lr"],
            min_lr=case["min_lr"],
            epochs=case["max_epoch"],
            warmup_steps=case["warmup_steps"],
            warmup_start_lr=start,
        )
        assert rate == pytest.approx(expected, rel=1e-12)


@given(st.integers(1, 500), st.integers(0, 499), st.floats(1e-5, 1e-2))
def test_the_step_schedule_stays_between_its_ends_and_only_falls_after_the_warm_up(
    total: int, warmup: int, lr: float
) -> None:
    warmup = min(warmup, total - 1)
    rates = [
        step_cosine(step, lr=lr, min_lr=lr / 10, total_steps=total, warmup_steps=warmup, warmup_start_lr=0.0)
        for step in range(total)
    ]
    assert max(rates) == pytest.approx(lr)
    assert all(0 <= rate <= lr * (1 + 1e-9) for rate in rates)
    falling = rates[warmup:]
    assert all(later <= earlier for earlier, later in pairwise(falling))
    assert rates[:warmup] == sorted(rates[:warmup])


def test_warm_up_defaults_to_a_twentieth_of_all_updates() -> None:
    schedule = make_schedule(train_settings(None, {"epochs": 4, "lr": 1.0}), steps_per_epoch=50)
    assert schedule(Position(0, 9, 9)) < 1.0
    assert schedule(Position(0, 10, 10)) == 1.0
    assert schedule(Position(3, 49, 199)) < 0.001


def test_a_warm_up_longer_than_the_training_is_refused() -> None:
    with pytest.raises(TrainingError) as error:
        make_schedule(train_settings("paper"), steps_per_epoch=8)
    assert str(error.value) == (
        "warmup_steps=1,000 is not below the 160 updates of the whole training (20 epochs of 8), so lr would never be "
        "reached. Give fewer warmup_steps, or leave the setting out for a part of all updates (warmup_ratio)."
    )
