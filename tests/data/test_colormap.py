"""Colour maps."""

from __future__ import annotations

import pytest
import torch

from crema_core.data.colormap import ColormapName, colorize


def test_grey_repeats_the_number() -> None:
    values = torch.rand(2, 3, 4)
    torch.testing.assert_close(colorize(values, "grey"), values[:, None].expand(-1, 3, -1, -1))


@pytest.mark.parametrize("name", ["turbo", "inferno", "grey"])
def test_values_are_clamped_and_colours_stay_in_range(name: ColormapName) -> None:
    colors = colorize(torch.tensor([[[-5.0, 0.0, 0.5, 1.0, 7.0]]]), name)
    assert colors.shape == (1, 3, 1, 5)
    assert torch.equal(colors[..., 0], colors[..., 1])
    assert torch.equal(colors[..., 3], colors[..., 4])
    assert float(colors.min()) >= 0
    assert float(colors.max()) <= 1


def test_heat_gets_brighter_all_the_way() -> None:
    brightness = colorize(torch.linspace(0, 1, 100)[None, None], "inferno").sum(dim=1).flatten()
    assert bool((brightness.diff() > 0).all())


@pytest.mark.parametrize("name", ["turbo", "inferno"])
def test_far_apart_numbers_have_far_apart_colours(name: ColormapName) -> None:
    colors = colorize(torch.linspace(0, 1, 9)[None, None], name)[0, :, 0].T
    distances = torch.cdist(colors, colors) + 9 * torch.eye(9)
    assert float(distances.min()) > 0.15
