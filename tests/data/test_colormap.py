"""Colour maps."""

from __future__ import annotations

import pytest
import torch

from crema_core.data.images import ColormapName, colorize


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


def test_the_colours_at_the_anchors_are_the_published_ones() -> None:
    turbo = colorize(torch.linspace(0, 1, 9)[None, None], "turbo")[0, :, 0].T * 255
    inferno = colorize(torch.linspace(0, 1, 9)[None, None], "inferno")[0, :, 0].T * 255
    assert turbo.round().int().tolist() == [
        [48, 18, 59], [70, 107, 227], [40, 187, 236], [49, 242, 153], [162, 252, 60],
        [237, 208, 58], [251, 128, 34], [209, 48, 5], [122, 4, 3],
    ]  # fmt: skip
    assert inferno.round().int().tolist() == [
        [0, 0, 4], [31, 12, 72], [85, 15, 109], [136, 34, 106], [186, 54, 85],
        [227, 89, 51], [249, 140, 10], [249, 201, 50], [252, 255, 164],
    ]  # fmt: skip
