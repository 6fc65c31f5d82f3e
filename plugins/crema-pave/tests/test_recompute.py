"""A patch keeps little between its passes, and its numbers are those of the plain way."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.pave_patch import WAYS, Way, here, written_out
from crema_pave.patch import PavePatch
from crema_pave.recompute import map_again
from tests.support.live_memory import LiveMemory
from tests.support.numeric import assert_close_to_scale
from tests.support.pave import random_patch

FRAMES, QUERIES, SIDE_TOKENS, WIDTH, OUT = 4, 14, 41, 32, 56
SHARED = {"side_dim": 64, "query_dim": 72, "output_dim": OUT, "embed_dim": WIDTH, "num_heads": 4, "shared_value": True}


def scaled() -> tuple[PavePatch, Tensor, Tensor]:
    """A patch whose sizes have the proportions of the published one that reads 18,432 tokens, and its inputs."""
    torch.manual_seed(0)
    return random_patch(**SHARED), torch.randn(1, FRAMES, QUERIES, 72), torch.randn(1, FRAMES, SIDE_TOKENS, 64)


def gradients(way: Way, patch: PavePatch, queries: Tensor, side: Tensor) -> dict[str, Tensor]:
    inputs = {"queries": queries.clone().requires_grad_(), "side": side.clone().requires_grad_()}
    patch.zero_grad()
    update = way(patch, inputs["queries"], inputs["side"])
    update.square().mean().backward()
    named = {**inputs, **dict(patch.named_parameters())}
    return {"update": update.detach()} | {name: own.grad.clone() for name, own in named.items() if own.grad is not None}


@pytest.mark.parametrize("steps", [FRAMES, 3 * FRAMES])
def test_updates_and_gradients_are_those_of_the_operations_written_out(steps: int) -> None:
    patch, queries, _ = scaled()
    patch, queries, side = patch.double(), queries.double(), torch.randn(1, steps, SIDE_TOKENS, 64).double()
    ours, plain = (gradients(way, patch, queries, side) for way in (here, written_out))
    assert ours.keys() == plain.keys()
    assert len(ours) == 3 + len(list(patch.parameters()))
    for name, own in ours.items():
        assert_close_to_scale(own, plain[name], name=name)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("autocast", [False, True])
@pytest.mark.parametrize("function", [F.gelu, nn.LayerNorm(8)])
def test_what_is_computed_again_changes_no_bit(
    function: Callable[[Tensor], Tensor], autocast: bool, dtype: torch.dtype
) -> None:
    if isinstance(function, nn.Module):
        function = nn.LayerNorm(8).to(dtype)
    linear = nn.Linear(8, 5).to(dtype)
    values = torch.randn(2, 3, 8, dtype=dtype)

    def run(compute: Callable[[Tensor], Tensor]) -> list[Tensor]:
        given = values.clone().requires_grad_()
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=autocast):
            result = compute(given)
        parameters = [given, *linear.parameters(), *(function.parameters() if isinstance(function, nn.Module) else ())]
        sums = result.float().square().sum()
        once = torch.autograd.grad(sums, parameters, retain_graph=True)
        again = torch.autograd.grad(sums, parameters)
        assert all(torch.equal(first, second) for first, second in zip(once, again, strict=True))
        return [result, *once]

    ours, plain = run(lambda own: map_again(own, function, linear)), run(lambda own: linear(function(own)))
    assert all(torch.equal(own, expected) for own, expected in zip(ours, plain, strict=True))


def test_gradients_of_gradients_are_right() -> None:
    torch.manual_seed(0)
    linear, values = nn.Linear(3, 2).double(), torch.randn(4, 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradgradcheck(lambda own: map_again(own, torch.tanh, linear), values)


def peak(way: Way, *, backward: bool, **padding: Tensor) -> tuple[int, int]:
    """Bytes of tensors after the forward pass and at most, beside model and inputs."""
    patch, queries, side = scaled()
    compute = (lambda *given: patch(*given[1:2], side=given[2], **padding)) if padding else way
    with LiveMemory([queries, side, *patch.parameters()]) as memory, torch.set_grad_enabled(backward):
        update = compute(patch, queries, side)
        kept = memory.live
        if backward:
            update.square().mean().backward()
    return kept, memory.peak


def test_between_its_passes_a_patch_keeps_what_only_products_give() -> None:
    tokens, side = 4 * FRAMES * QUERIES, 4 * FRAMES * SIDE_TOKENS
    # Mapped side tokens and queries; per layer queries, attended, two sums and the widened; keys; adapter and update.
    layer = tokens * (4 * WIDTH + 2 * WIDTH) + side * WIDTH
    whole = side * WIDTH + tokens * WIDTH + 2 * layer + tokens * (2 * WIDTH + 2 * OUT)
    statistics = tokens * (2 * 2 + 2 + 2 * 4)  # two of every norm, one of attention for each of 4 heads
    kept, _ = peak(here, backward=True)
    assert whole <= kept <= whole + statistics
    plain, _ = peak(written_out, backward=True)
    assert plain > 1.4 * kept


def test_peaks_stay_below_those_of_the_operations_written_out() -> None:
    peaks = {
        (name, backward): peak(way, backward=backward)[1] for name, way in WAYS.items() for backward in (True, False)
    }
    assert peaks["here", True] < 0.75 * peaks["written out", True]
    assert peaks["here", False] < 0.75 * peaks["written out", False]


def test_masks_without_padding_cost_no_copy_and_change_nothing() -> None:
    patch, queries, side = scaled()
    masks = {
        "frame_mask": torch.ones(1, FRAMES, dtype=torch.bool),
        "side_mask": torch.ones(1, FRAMES, SIDE_TOKENS, dtype=torch.bool),
    }
    assert torch.equal(patch(queries, side=side, **masks), patch(queries, side=side))
    assert peak(here, backward=False, **masks)[1] < 1.05 * peak(here, backward=False)[1]
    padded = masks | {"side_mask": masks["side_mask"].index_fill(2, torch.tensor([SIDE_TOKENS - 1]), False)}
    assert peak(here, backward=False, **padded)[1] > peak(here, backward=False)[1]
