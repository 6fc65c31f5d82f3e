"""Where the benchmark of what is left puts the operators of a profile."""

from __future__ import annotations

import pytest
import torch
from torch.profiler import ProfilerActivity, profile

from benchmarks.limit import group_of, in_optimizer


@pytest.mark.parametrize(
    ("operator", "group"),
    [
        ("aten::addmm", "products"),
        ("aten::mm", "products"),
        ("aten::_scaled_dot_product_flash_attention_for_cpu_backward", "attention"),
        ("aten::bernoulli_", "random numbers of dropout"),
        ("aten::copy_", "copies and sums over copies"),
        ("aten::native_layer_norm_backward", "elementwise and norms"),
        ("aten::mul", "elementwise and norms"),
        ("autograd::engine::evaluate_function: MulBackward0", "between operators"),
    ],
)
def test_every_operator_has_a_group(operator: str, group: str) -> None:
    assert group_of(operator) == group


def test_the_optimizers_operators_are_its_own() -> None:
    weight = torch.nn.Parameter(torch.ones(4))
    optimizer = torch.optim.AdamW([weight], foreach=False)
    with profile(activities=[ProfilerActivity.CPU], acc_events=True) as found:
        (weight * 3).sum().backward()
        optimizer.step()
    inside = {event.name for event in found.events() if in_optimizer(event)}
    outside = {event.name for event in found.events() if not in_optimizer(event)}
    assert "aten::sqrt" in inside
    assert "aten::sqrt" not in outside
    assert "aten::sum" in outside
