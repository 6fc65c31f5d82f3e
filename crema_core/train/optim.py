"""The optimizer over adapters and fusion; frozen parts have no optimizer state at all."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import torch
from torch import Tensor, nn


def make_optimizer(
    parameters: Mapping[str, nn.Parameter], *, lr: float, weight_decay: float, betas: tuple[float, float]
) -> torch.optim.AdamW:
    """Return one AdamW over all senses.

    AdamW leaves a parameter without gradient alone, value, moments and step count, so one optimizer serves senses that
    take turns. (Gradients must be None and not zero for that: see `clear_gradients`.)

    Args:
        parameters: trainable parameters by name.
        lr: starting learning rate.
        weight_decay: of the tensors for which `decays` is true.
        betas: decay rates of the moments.
    """
    decayed = [name for name, parameter in parameters.items() if decays(name, parameter)]
    rest = [name for name in parameters if name not in set(decayed)]
    groups = [
        {"params": [parameters[name] for name in names], "weight_decay": decay}
        for names, decay in ((decayed, weight_decay), (rest, 0.0))
        if names
    ]
    return torch.optim.AdamW(groups, lr=lr, betas=betas)


def decays(name: str, parameter: Tensor) -> bool:
    """Return whether weight decay applies: to matrices, not to biases and norms (whose weights are vectors).

    Names are not searched for "norm": a sense may be called so.
    """
    return parameter.dim() >= 2 and name.rpartition(".")[2] != "bias"


def set_learning_rate(optimizer: torch.optim.Optimizer, lr: float) -> None:
    """Use `lr` from the next update on."""
    for group in optimizer.param_groups:
        group["lr"] = lr


def clear_gradients(parameters: Iterable[nn.Parameter]) -> None:
    """Set gradients to None: with zeros the moments of inactive senses would keep moving them."""
    for parameter in parameters:
        parameter.grad = None


def gradient_norm(parameters: Iterable[nn.Parameter]) -> float:
    """Return the L2 norm of all gradients together; parameters without one count as zero."""
    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    return float(nn.utils.get_total_norm(gradients)) if gradients else 0.0


def clip_gradients(parameters: Sequence[nn.Parameter], limit: float) -> None:
    """Scale all gradients together so that their L2 norm is at most `limit`."""
    nn.utils.clip_grad_norm_(parameters, limit)
