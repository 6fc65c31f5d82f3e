"""Counting passes without doing them."""

from __future__ import annotations

import torch
from torch import nn

from crema_core.report.flops import FlopMeter


def test_a_backward_pass_through_a_change_of_number_format_is_counted_and_not_done() -> None:
    """The backward pass of a conversion names the device to convert to."""
    side = 512
    weight = nn.Parameter(torch.zeros(side, side))
    states = torch.zeros((), dtype=torch.bfloat16).expand(side, side)
    meter = FlopMeter("rest")
    meter.enter("rest", skip=True)
    with meter:
        (weight.to(torch.bfloat16) @ states).float().sum().backward()
    assert meter.flops["rest"] == 2 * 2 * side**3  # forward, and backward to the weight alone
    assert weight.grad is not None
    assert (weight.grad.shape, weight.grad.dtype) == (weight.shape, torch.float32)
