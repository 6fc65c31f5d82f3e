"""One stage of the training of a tiny backbone: AdamW, warm-up, a rate that falls in the last third."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from crema_world.language_stage import rate_factor

PEAK_RATE = 1e-3


def train_stage(
    model: nn.Module,
    loss_of: Callable[[int], Tensor],
    num_steps: int,
    stage: str,
    report: Callable[[str], None],
    *,
    rate: float = PEAK_RATE,
) -> None:
    """Train in place.

    Args:
        model: whose parameters are updated, all of them.
        loss_of: step, from 1 -> its loss.
        num_steps: 0: nothing is done.
        stage: name for the status lines.
        report: receives a status line every 250 steps.
        rate: the highest learning rate.
    """
    if num_steps == 0:
        return
    weights = list(model.parameters())
    optimizer = torch.optim.AdamW(weights, lr=rate, betas=(0.9, 0.98), weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: rate_factor(step, num_steps))
    model.train()
    losses = []
    for step in range(1, num_steps + 1):
        loss = loss_of(step)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(weights, 1.0)
        optimizer.step()
        schedule.step()
        losses.append(loss.item())
        if step % 250 == 0 or step == num_steps:
            report(f"{stage} {step}/{num_steps}  loss {sum(losses) / len(losses):.3f}")
            losses.clear()
