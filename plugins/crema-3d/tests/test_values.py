"""Places in coordinates of a map keep their millimetres, stray points or not."""

from __future__ import annotations

import pytest
import torch

from crema_3d.values import near_origin

UTM = torch.tensor([698_000.0, 6_260_000.0, 96.0], dtype=torch.float64)


def room(count: int = 1000) -> torch.Tensor:
    return torch.rand(count, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64) * 20


@pytest.mark.parametrize("stray", [None, (0.0, 0.0, 0.0), (1e6, 1e7, 0.0)])
def test_a_cloud_in_map_coordinates_keeps_its_millimetres_whatever_strays(stray: tuple[float, ...] | None) -> None:
    cloud = room() + UTM
    given = cloud if stray is None else torch.cat([cloud, torch.tensor([stray], dtype=torch.float64)])
    moved = near_origin(given)[: len(cloud)].double()
    torch.testing.assert_close(moved - moved[0], cloud - cloud[0], atol=1e-5, rtol=0)
    assert moved.abs().max() < 50


@pytest.mark.parametrize(("scale", "away"), [(1.0, 500.0), (1000.0, 12_000.0)])
def test_a_cloud_around_its_viewer_stays_where_it_is(scale: float, away: float) -> None:
    cloud = torch.cat([(room() - 10) * scale, torch.full((1, 3), away, dtype=torch.float64)])
    assert torch.equal(near_origin(cloud), cloud.float())
