"""How weights move: who decays, what the norm is over, and the learning rate of every update."""

from __future__ import annotations

import json
import math
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from crema_core.errors import TrainingError
from crema_core.train.optim import (
    Position,
    decays,
    epoch_cosine,
    gradient_norm,
    make_optimizer,
    make_schedule,
    set_learning_rate,
    step_cosine,
)
from crema_core.train.settings import train_settings

GOLDEN = json.loads((Path(__file__).parent / "golden" / "schedule.json").read_text())


@pytest.mark.parametrize(
    ("name", "shape", "expected"),
    [
        ("modalities.radar.lora.0.query.A", (2, 8), True),
        ("modalities.radar.mmqa.queries", (1, 4, 8), True),
        ("modalities.normals.mmqa.output.weight", (8, 8), True),  # the modality is called so, it is no norm
        ("modalities.radar.mmqa.norm.weight", (8,), False),
        ("modalities.radar.mmqa.output.bias", (8,), False),
        ("fusion.blocks.radar.bias", (2, 8), False),
    ],
)
def test_matrices_decay_and_norms_and_biases_do_not(name: str, shape: tuple[int, ...], expected: bool) -> None:
    assert decays(name, torch.zeros(shape)) is expected


def test_a_scaled_learning_rate_keeps_its_scale_through_the_schedule_and_apart_from_decay() -> None:
    names = ("a.weight", "a.bias", "b.weight", "b.bias", "c.weight")
    parameters = {name: nn.Parameter(torch.ones(2, 2)) for name in names}
    settings = train_settings(None, {"lr": 0.1, "weight_decay": 0.5})
    optimizer = make_optimizer(parameters, settings, lr_scales={"a.weight": 0.15, "a.bias": 0.15, "c.weight": 3.0})

    def rates() -> dict[str, tuple[float, float]]:
        known = {id(own): name for name, own in parameters.items()}
        return {
            known[id(own)]: (group["lr"], group["weight_decay"])
            for group in optimizer.param_groups
            for own in group["params"]
        }

    for lr in (0.1, 0.01, 0.02):
        assert rates() == {
            "a.weight": (lr * 0.15, 0.5),
            "a.bias": (lr * 0.15, 0.0),
            "b.weight": (lr, 0.5),
            "b.bias": (lr, 0.0),
            "c.weight": (lr * 3.0, 0.5),
        }
        set_learning_rate(optimizer, {0.1: 0.01}.get(lr, 0.02))
    plain = make_optimizer(parameters, settings)
    assert [len(group["params"]) for group in plain.param_groups] == [3, 2]


def test_a_parameter_without_gradient_keeps_value_and_moments() -> None:
    parameters = {"a.weight": nn.Parameter(torch.ones(2, 2)), "b.weight": nn.Parameter(torch.ones(2, 2))}
    optimizer = make_optimizer(parameters, train_settings(None, {"lr": 0.1, "weight_decay": 0.5}))
    a, b = parameters.values()
    for parameter in (a, b):
        parameter.grad = torch.ones(2, 2)
    optimizer.step()
    optimizer.zero_grad()
    kept, moment = b.detach().clone(), optimizer.state[b]["exp_avg"].clone()
    for _ in range(3):
        a.grad = torch.ones(2, 2)
        optimizer.step()
        optimizer.zero_grad()
    assert torch.equal(b, kept)
    assert torch.equal(optimizer.state[b]["exp_avg"], moment)
    assert optimizer.state[b]["step"] == 1


def test_the_norm_is_over_all_gradients_together() -> None:
    parameters = [nn.Parameter(torch.zeros(1)) for _ in range(3)]
    parameters[0].grad, parameters[1].grad = torch.tensor([3.0]), torch.tensor([4.0])
    assert gradient_norm(parameters) == pytest.approx(5.0)
    assert gradient_norm(parameters[2:]) == 0.0


def test_the_rate_is_set_for_all_groups() -> None:
    parameters = {"a.weight": nn.Parameter(torch.ones(2, 2)), "a.bias": nn.Parameter(torch.ones(2))}
    optimizer = make_optimizer(parameters, train_settings(None, {"lr": 0.1, "weight_decay": 0.5}))
    set_learning_rate(optimizer, 0.3)
    assert [(group["lr"], group["weight_decay"]) for group in optimizer.param_groups] == [(0.3, 0.5), (0.3, 0.0)]


@pytest.mark.parametrize("case", GOLDEN, ids=lambda case: f"warmup {case['warmup_steps']}")
def test_the_epoch_schedule_is_the_released_one(case: dict[str, Any]) -> None:
    # The reference marks "no warm-up start" with -1 and then begins at the full rate.
    start = case["warmup_start_lr"] if case["warmup_start_lr"] >= 0 else case["init_lr"]
    settings = train_settings(
        None,
        {
            "lr": case["init_lr"],
            "min_lr": case["min_lr"],
            "epochs": case["max_epoch"],
            "warmup_steps": case["warmup_steps"],
            "warmup_start_lr": start,
        },
    )
    for epoch, step, expected in case["epoch_step_lr"]:
        rate = epoch_cosine(Position(epoch, step, epoch * case["iters_per_epoch"] + step), settings)
        assert rate == pytest.approx(expected, rel=1e-12)


@pytest.mark.slow
@given(st.integers(1, 500), st.integers(0, 499), st.floats(1e-5, 1e-2))
def test_the_step_schedule_stays_between_its_ends_and_only_falls_after_the_warm_up(
    total: int, warmup: int, lr: float
) -> None:
    warmup = min(warmup, total - 1)
    settings = train_settings(None, {"lr": lr, "min_lr": lr / 10, "warmup_start_lr": 0.0})
    rates = [step_cosine(step, settings, total_steps=total, warmup_steps=warmup) for step in range(total)]
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


def test_the_step_schedule_rises_evenly_from_its_start_and_falls_by_a_cosine() -> None:
    settings = train_settings(None, {"lr": 1.0, "min_lr": 0.2, "warmup_start_lr": 0.1})
    rates = [step_cosine(step, settings, total_steps=10, warmup_steps=4) for step in range(11)]
    falling = [0.2 + 0.4 * (1 + math.cos(math.pi * part / 6)) for part in range(7)]
    assert rates == pytest.approx([0.1, 0.325, 0.55, 0.775, *falling], rel=1e-12)
    assert (rates[4], rates[7], rates[10]) == pytest.approx((1.0, 0.6, 0.2))


@pytest.mark.parametrize(
    ("settings", "warmup", "first"),
    [
        ({}, 10, 1e-8),
        ({"warmup_start_lr": 0.5}, 10, 0.5),
        ({"warmup_ratio": 0.1}, 20, 1e-8),
        ({"warmup_ratio": 0.1, "warmup_steps": 3}, 3, 1e-8),
        ({"warmup_ratio": 0.0}, 0, 1.0),
        ({"warmup_steps": 0}, 0, 1.0),
        ({"warmup_steps": 199}, 199, 1e-8),
    ],
    ids=str,
)
def test_the_default_schedule_warms_up_as_set(settings: dict[str, Any], warmup: int, first: float) -> None:
    given = train_settings(None, {"epochs": 4, "lr": 1.0, "min_lr": 0.1, **settings})
    assert given.schedule == "step"
    schedule = make_schedule(given, steps_per_epoch=50)
    rates = [schedule(Position(step // 50, step % 50, step)) for step in range(200)]
    assert rates[0] == first
    plain = given.model_copy(update={"warmup_start_lr": first})
    expected = [step_cosine(step, plain, total_steps=200, warmup_steps=warmup) for step in range(200)]
    assert rates == pytest.approx(expected, rel=1e-12)
    assert rates.index(max(rates)) == warmup


@pytest.mark.parametrize(("warmup", "first"), [(None, 1.0), (0, 1.0), (4, 0.25)])
def test_the_epoch_schedule_warms_up_inside_the_first_epoch_alone(warmup: int | None, first: float) -> None:
    given = train_settings(
        None,
        {"schedule": "epoch", "epochs": 2, "lr": 1.0, "min_lr": 0.2, "warmup_steps": warmup, "warmup_start_lr": 0.25},
    )
    schedule = make_schedule(given, steps_per_epoch=6)
    rates = [schedule(Position(step // 6, step % 6, step)) for step in range(12)]
    assert rates[0] == first
    assert rates[2] == pytest.approx(first + (1 - first) / 2)
    assert rates[4:6] == [1.0, 1.0]
    assert rates[6:] == pytest.approx([0.6] * 6)


def test_a_warm_up_as_long_as_the_training_is_refused() -> None:
    settings = train_settings(None, {"epochs": 4, "warmup_steps": 200})
    with pytest.raises(TrainingError):
        make_schedule(settings, steps_per_epoch=50)
    make_schedule(settings, steps_per_epoch=51)


def test_a_warm_up_longer_than_the_training_is_refused() -> None:
    with pytest.raises(TrainingError) as error:
        make_schedule(train_settings("paper"), steps_per_epoch=8)
    assert str(error.value) == (
        "warmup_steps=1,000 is not below the 160 updates of the whole training (20 epochs of 8), so lr would never be "
        "reached. Give fewer warmup_steps, or leave the setting out for a part of all updates (warmup_ratio)."
    )
