"""Layers that are computed again in the backward pass: less is kept, nothing changes."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from crema_core.api.build import build
from crema_core.model.blocks import layers, recomputed
from crema_core.model.prompt import Prompt
from tests.support.fixtures import opt_folder, t5_folder
from tests.support.senses import four_senses

__all__ = ["opt_folder", "t5_folder"]


@pytest.mark.parametrize("folder", ["t5_folder", "opt_folder"])
def test_recomputed_layers_keep_less_and_give_the_same_gradient(folder: str, request: pytest.FixtureRequest) -> None:
    place: Path = request.getfixturevalue(folder)
    language = build(four_senses(), backbone=place).language
    start_BSL = torch.randn(2, 30, 24, generator=torch.Generator().manual_seed(0))
    mask_BS = torch.ones(2, 30, dtype=torch.bool)

    def run(*, enabled: bool) -> tuple[float, Tensor, int]:
        embeds_BSL = nn.Parameter(start_BSL)
        kept: dict[int, int] = {}

        def keep(tensor: Tensor) -> Tensor:
            kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
            return tensor

        with recomputed(language.model, enabled=enabled):
            with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
                loss = language.loss(Prompt(embeds_BSL, mask_BS), ["red", "blue"])
            num_bytes = sum(kept.values())
            loss.backward()
        assert embeds_BSL.grad is not None
        return float(loss.detach()), embeds_BSL.grad, num_bytes

    loss, gradient, num_bytes = run(enabled=False)
    again, same, fewer = run(enabled=True)
    assert loss == again
    assert torch.equal(gradient, same)
    assert fewer < num_bytes * 0.7
    assert all("forward" not in vars(layer) for layer in layers(language.model))
    assert len(layers(language.model)) >= 2
