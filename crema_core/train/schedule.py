"""The learning rate as a function of the position: no state to save, nothing to resume."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

from crema_core.errors import TrainingError
from crema_core.train.settings import TrainSettings


class Position(NamedTuple):
    """Where training is: 0-based epoch, update inside the epoch, update since the start."""

    epoch: int
    step_in_epoch: int
    step: int


Schedule = Callable[[Position], float]


def make_schedule(settings: TrainSettings, *, steps_per_epoch: int) -> Schedule:
    """Return the learning rate of each update.

    Args:
        settings: of the run.
        steps_per_epoch: updates in an epoch.

    Raises:
        TrainingError: when the warm-up would last longer than the training.
    """
    total = settings.epochs * steps_per_epoch
    if settings.schedule == "epoch":
        return lambda at: epoch_cosine(
            at,
            lr=settings.lr,
            min_lr=settings.min_lr,
            epochs=settings.epochs,
            warmup_steps=settings.warmup_steps or 0,
            warmup_start_lr=settings.warmup_start_lr,
        )
    if settings.warmup_steps is not None and settings.warmup_steps >= total:
        raise TrainingError(
            f"warmup_steps={settings.warmup_steps:,} is not below the {total:,} updates of the whole training "
            f"({settings.epochs} epochs of {steps_per_epoch:,}), so lr would never be reached. Give fewer "
            "warmup_steps, or leave the setting out for a part of all updates (warmup_ratio)."
        )
    warmup = int(total * settings.warmup_ratio) if settings.warmup_steps is None else settings.warmup_steps
    return lambda at: step_cosine(
        at.step,
        lr=settings.lr,
        min_lr=settings.min_lr,
        total_steps=total,
        warmup_steps=warmup,
        warmup_start_lr=settings.warmup_start_lr,
    )


def step_cosine(
    step: int, *, lr: float, min_lr: float, total_steps: int, warmup_steps: int, warmup_start_lr: float
) -> float:
    """Return the rate at `step`: linear from `warmup_start_lr` to `lr`, then a cosine that ends at `min_lr`."""
    if step < warmup_steps:
        return warmup_start_lr + (lr - warmup_start_lr) * step / warmup_steps
    progress = (step - warmup_steps) / max(1, total_steps - warmup_steps)
    return _cosine(progress, lr, min_lr)


def epoch_cosine(
    at: Position, *, lr: float, min_lr: float, epochs: int, warmup_steps: int, warmup_start_lr: float
) -> float:
    """Return the released code's rate: warm-up inside epoch 0 only, from epoch 1 a cosine of the epoch's index.

    The rate is constant within an epoch and jumps at epoch 1 when epoch 0 was shorter than the warm-up.
    """
    if at.epoch > 0:
        return _cosine(at.epoch / epochs, lr, min_lr)
    if warmup_steps == 0:
        return lr
    return min(lr, warmup_start_lr + (lr - warmup_start_lr) * at.step / warmup_steps)


def _cosine(progress: float, lr: float, min_lr: float) -> float:
    return (lr - min_lr) * 0.5 * (1.0 + math.cos(math.pi * progress)) + min_lr
