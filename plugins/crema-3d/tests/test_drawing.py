"""The picture of a cloud: what is nearer hides what is farther."""

from __future__ import annotations

import pytest
import torch

from crema_3d.drawing import SIDE_PX, VIEWS, draw_points
from crema_core.data.sheet import GAP_PX

RED, BLUE = (1.0, 0.0, 0.0), (0.0, 0.0, 1.0)


def walls(axis: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Two dense walls across an axis, red at -1 and blue at 1, in that order and mixed."""
    side = torch.linspace(-1, 1, 110)
    grid = torch.cartesian_prod(side, side)
    points = torch.cat([torch.full((len(grid), 3), place) for place in (-1.0, 1.0)])
    others = [own for own in range(3) if own != axis]
    points[:, others] = grid.repeat(2, 1)
    colors = torch.tensor([RED, BLUE]).repeat_interleave(len(grid), dim=0)
    mixed = torch.randperm(len(points), generator=torch.Generator().manual_seed(0))
    return points[mixed], colors[mixed]


@pytest.mark.parametrize(
    ("view", "axis", "nearest"), [(0, 2, BLUE), (1, 1, RED), (2, 0, BLUE)], ids=[own[0] for own in VIEWS]
)
def test_of_two_walls_only_the_nearer_is_seen(view: int, axis: int, nearest: tuple[float, ...]) -> None:
    points, colors = walls(axis)
    picture = draw_points(points, colors, num_available=len(points))
    left = GAP_PX + view * (SIDE_PX + GAP_PX)
    seen = picture[GAP_PX : GAP_PX + SIDE_PX, left : left + SIDE_PX]
    assert bool((seen == (255 * torch.tensor(nearest)).byte()).all())


def test_a_picture_depends_on_the_points_and_not_on_their_order() -> None:
    generator = torch.Generator().manual_seed(0)
    points, colors = torch.rand(5000, 3, generator=generator), torch.rand(5000, 3, generator=generator)
    mixed = torch.randperm(5000, generator=generator)
    assert torch.equal(
        draw_points(points, colors, num_available=5000), draw_points(points[mixed], colors[mixed], num_available=5000)
    )
