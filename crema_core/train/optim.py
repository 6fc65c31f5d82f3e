"""The optimizer over adapters and fusion, and its learning rate; frozen parts have no optimizer state at all.

The schedule's rate is a function of the position: no state to save, nothing to resume. What hooks multiply it with is
kept in checkpoints (`crema_core.plugins.control`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple

import torch
from torch import Tensor, nn

from crema_core.errors import TrainingError
from crema_core.train.settings import TrainSettings


class Position(NamedTuple):
    """Where training is: 0-based epoch, update inside the epoch, update since the start."""

    epoch: int
    step_in_epoch: int
    step: int


Schedule = Callable[[Position], float]

LR_SCALE = "lr_scale"
"""Key of a group of the optimizer: what the rate of the schedule is multiplied with."""


def make_optimizer(
    parameters: Mapping[str, nn.Parameter], settings: TrainSettings, *, lr_scales: Mapping[str, float] | None = None
) -> torch.optim.AdamW:
    """Return one AdamW over all modalities.

    AdamW leaves a parameter without gradient alone, value, moments and step count, so one optimizer serves modalities
    that take turns. Gradients must be None and not zero for that, as `zero_grad` leaves them.

    Args:
        parameters: trainable parameters by name.
        settings: of the run; weight decay is that of the tensors for which `decays` is true.
        lr_scales: what the learning rate is multiplied with, by name of parameters; 1 for those not named.
    """
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    for decay, wanted in ((settings.weight_decay, True), (0.0, False)):
        for name, parameter in parameters.items():
            if decays(name, parameter) is wanted:
                groups.setdefault((decay, (lr_scales or {}).get(name, 1.0)), []).append(parameter)
    return torch.optim.AdamW(
        [
            {"params": own, "weight_decay": decay, "lr": settings.lr * scale, LR_SCALE: scale}
            for (decay, scale), own in groups.items()
        ],
        lr=settings.lr,
        betas=settings.betas,
    )


def decays(name: str, parameter: Tensor) -> bool:
    """Return whether weight decay applies: to matrices, not to biases and norms (whose weights are vectors).

    Names are not searched for "norm": a modality may be called so.
    """
    return parameter.dim() >= 2 and name.rpartition(".")[2] != "bias"


def set_learning_rate(optimizer: torch.optim.Optimizer, lr: float) -> None:
    """Use `lr` from the next update on, each group of parameters with its own scale."""
    for group in optimizer.param_groups:
        group["lr"] = lr * group[LR_SCALE]


def gradient_norm(parameters: Iterable[nn.Parameter]) -> float:
    """Return the L2 norm of all gradients together; parameters without one count as zero."""
    return gradient_norms([parameters])[0]


def gradient_norms(groups: Iterable[Iterable[nn.Parameter]], *more: Tensor) -> list[float]:
    """Return the L2 norm of the gradients of every group, and `more` scalars, in one transfer from the device."""
    found = []
    for parameters in groups:
        gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
        found.append(nn.utils.get_total_norm(gradients))
    device = next((own.device for own in [*more, *found] if own.device.type != "cpu"), torch.device("cpu"))
    numbers: list[float] = torch.stack([own.to(device, torch.float64) for own in [*found, *more]]).tolist()
    return numbers


def make_schedule(settings: TrainSettings, *, steps_per_epoch: int) -> Schedule:
    """Return the learning rate of each update.

    Args:
        settings: of the run.
        steps_per_epoch: updates in an epoch.

    Raises:
        TrainingError: when the warm-up would last longer than the training.
    """
    if settings.schedule == "epoch":
        return lambda at: epoch_cosine(at, settings)
    total = settings.epochs * steps_per_epoch
    if settings.warmup_steps is not None and settings.warmup_steps >= total:
        raise TrainingError(
            f"warmup_steps={settings.warmup_steps:,} is not below the {total:,} updates of the whole training "
            f"({settings.epochs} epochs of {steps_per_epoch:,}), so lr would never be reached. Give fewer "
            "warmup_steps, or leave the setting out for a part of all updates (warmup_ratio)."
        )
    warmup = int(total * settings.warmup_ratio) if settings.warmup_steps is None else settings.warmup_steps
    return lambda at: step_cosine(at.step, settings, total_steps=total, warmup_steps=warmup)


def step_cosine(step: int, settings: TrainSettings, *, total_steps: int, warmup_steps: int) -> float:
    """Return the rate at `step`: linear from `warmup_start_lr` to `lr`, then a cosine that ends at `min_lr`."""
    if step < warmup_steps:
        return settings.warmup_start_lr + (settings.lr - settings.warmup_start_lr) * step / warmup_steps
    return _cosine((step - warmup_steps) / max(1, total_steps - warmup_steps), settings)


def epoch_cosine(at: Position, settings: TrainSettings) -> float:
    """Return the released code's rate: warm-up inside epoch 0 only, from epoch 1 a cosine of the epoch's index.

    The rate is constant within an epoch and jumps at epoch 1 when epoch 0 was shorter than the warm-up.
    """
    if at.epoch > 0:
        return _cosine(at.epoch / settings.epochs, settings)
    if not settings.warmup_steps:
        return settings.lr
    start = settings.warmup_start_lr
    return min(settings.lr, start + (settings.lr - start) * at.step / settings.warmup_steps)


def _cosine(progress: float, settings: TrainSettings) -> float:
    lr, min_lr = settings.lr, settings.min_lr
    return (lr - min_lr) * 0.5 * (1.0 + math.cos(math.pi * progress)) + min_lr
