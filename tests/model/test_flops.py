"""Counting passes without doing them."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from crema_core.model.flops import FlopMeter, measure


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


class Copies(nn.Module):
    """Brings its large table to where the input is, as position tables of encoders are."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Parameter(torch.ones(300, 300))

    def forward(self, values: Tensor) -> Tensor:
        return values @ self.table.to(device=values.device, copy=True)


def test_a_copy_to_a_device_is_where_it_was_sent_and_what_follows_is_counted() -> None:
    module = Copies()
    with measure({"part": [module]}, real=frozenset(), default="rest") as meter:
        product = module(torch.ones(300, 300))
    assert product.device.type == "cpu"
    assert product.shape == (300, 300)
    assert dict(meter.flops) == {"part": 2 * 300**3}
