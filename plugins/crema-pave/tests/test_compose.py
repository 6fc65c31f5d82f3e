"""Two patches on one video: in parallel each adds what it adds alone; in a chain the second sees the first's work."""

from __future__ import annotations

import torch
from torch import Tensor

from crema_core.model.trainable import set_trainable
from crema_pave.compose import Update, add_patches, chain_patches
from crema_pave.patch import PavePatch
from tests.support.pave import random_patch

WIDTH = 7


def patches() -> list[PavePatch]:
    return [random_patch(seed=seed, query_dim=WIDTH, output_dim=WIDTH) for seed in (1, 2)]


def updates(both: list[PavePatch]) -> list[Update]:
    generator = torch.Generator().manual_seed(3)
    sides = [torch.randn(2, steps, 1, 6, generator=generator) for steps in (5, 2)]
    return [
        lambda asked, patch=patch, side=side: patch(asked, side=side) for patch, side in zip(both, sides, strict=True)
    ]


def visual() -> Tensor:
    return torch.randn(2, 3, 4, WIDTH, generator=torch.Generator().manual_seed(4))


def test_in_parallel_the_order_does_not_matter_and_nothing_interacts() -> None:
    tokens, (first, second) = visual(), updates(patches())
    together = add_patches(tokens, [first, second])
    torch.testing.assert_close(together, add_patches(tokens, [second, first]))
    torch.testing.assert_close(together, tokens + first(tokens) + second(tokens))


def test_in_a_chain_the_second_patch_asks_with_the_first_ones_tokens() -> None:
    tokens, (first, second) = visual(), updates(patches())
    between = tokens + first(tokens)
    chained = chain_patches(tokens, [first, second])
    assert torch.equal(chained, between + second(between))
    assert not torch.allclose(chained, chain_patches(tokens, [second, first]))
    assert not torch.allclose(chained, add_patches(tokens, [first, second]))


def test_queries_from_elsewhere_are_the_same_for_all() -> None:
    tokens, queries, (first, second) = visual(), visual().flip(0), updates(patches())
    assert torch.equal(add_patches(tokens, [first, second], queries=queries), tokens + first(queries) + second(queries))


def test_behind_a_frozen_first_patch_only_the_second_learns() -> None:
    for combine in (add_patches, chain_patches):
        both = patches()
        set_trainable(torch.nn.ModuleList(both), {f"1.{name}" for name, _ in both[1].named_parameters()})
        combine(visual(), updates(both)).square().sum().backward()
        assert all(parameter.grad is None for parameter in both[0].parameters())
        assert all(parameter.grad is not None for parameter in both[1].parameters())


def test_a_fresh_second_patch_leaves_the_first_ones_answer_bit_identical() -> None:
    first = patches()[0]
    fresh = PavePatch(6, query_dim=WIDTH, output_dim=WIDTH, embed_dim=16, num_heads=2)
    alone = updates([first, fresh])[:1]
    for combine in (add_patches, chain_patches):
        assert torch.equal(combine(visual(), updates([first, fresh])), combine(visual(), alone))
