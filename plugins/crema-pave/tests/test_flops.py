"""Multiply-adds of a patch: the figures of the released configurations, and what torch counts in a forward pass."""

from __future__ import annotations

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from tests.support.pave import random_patch
from tests.support.pave_flops import patch_multiply_adds

# Teraflops at language-model widths 896 and 3584, from the sizes of the released runs (exo views: 1152 wide).
RUNS = {
    "seconds of sound": (120, 1, 1024, 0.059, 0.093),
    "views of a scene": (32, 576, 1024, 0.131, 0.166),
    "dense video": (240, 4, 1024, 0.062, 0.097),
    "further cameras": (32, 784, 1152, 0.161, 0.195),
}


@pytest.mark.parametrize("run", RUNS)
def test_figures_of_the_released_configurations(run: str) -> None:
    num_steps, tokens, side_dim, *teraflops = RUNS[run]
    counted = [
        2
        * patch_multiply_adds(
            num_frames=32,
            tokens_per_frame=196,
            num_steps=num_steps,
            tokens_per_step=tokens,
            side_dim=side_dim,
            query_dim=1152,
            output_dim=width,
        )
        for width in (896, 3584)
    ]
    assert [round(count / 1e12, 3) for count in counted] == teraflops


@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize("num_steps", [2, 4, 6, 8])
def test_torch_counts_the_same(num_steps: int, shared: bool) -> None:
    patch = random_patch(shared_value=shared)
    # The counter does not know the fused attention of CPUs, so the one of matrix products is asked for.
    with FlopCounterMode(display=False) as counter, torch.no_grad(), sdpa_kernel(SDPBackend.MATH):
        patch(torch.randn(1, 4, 9, 5), side=torch.randn(1, num_steps, 3, 6))
    counted = patch_multiply_adds(
        num_frames=4,
        tokens_per_frame=9,
        num_steps=num_steps,
        tokens_per_step=3,
        side_dim=6,
        query_dim=5,
        output_dim=7,
        embed_dim=16,
        shared_value=shared,
    )
    assert counter.get_total_flops() == 2 * counted
