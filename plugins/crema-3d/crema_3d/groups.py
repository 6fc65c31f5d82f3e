"""Points in groups of neighbours, as Point-BERT takes them: centres far from each other, the nearest points of each.

Shape letters: P points, G groups, K points of a group.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

GREY = 0.4
"""Red, green and blue of points without colour (ULIP-2's own value)."""


class Groups(NamedTuple):
    """A cloud in groups.

    Attributes:
        points: `(G, K, 6)`, position relative to the centre, in the normalised cloud, and red green blue in 0..1.
        centers: `(G, 3)` in the normalised cloud: mean 0, farthest point at 1.
        places: `(G, 3)` the same in metres, in the viewer's frame.
    """

    points: Tensor
    centers: Tensor
    places: Tensor


def group_points(xyz_P3: Tensor, rgb_P3: Tensor | None, *, num_groups: int, group_size: int) -> Groups:
    """Group a cloud; a small one has fewer groups, and its groups hold points twice, which a maximum does not see.

    Args:
        xyz_P3: `(P, 3)` metres, at least one point.
        rgb_P3: `(P, 3)` in 0..1, or None.
        num_groups: most groups.
        group_size: points of a group.
    """
    middle = xyz_P3.mean(dim=0)
    radius = (xyz_P3 - middle).norm(dim=1).max().clamp(min=1e-6)
    cloud_P3 = (xyz_P3 - middle) / radius
    chosen_G = farthest_points(cloud_P3, min(num_groups, len(cloud_P3)))
    centers_G3 = cloud_P3[chosen_G]
    near_GK = nearest_points(centers_G3, cloud_P3, min(group_size, len(cloud_P3)))
    near_GK = near_GK[:, torch.arange(group_size) % near_GK.shape[1]]
    colors_P3 = torch.full_like(cloud_P3, GREY) if rgb_P3 is None else rgb_P3
    points = torch.cat([cloud_P3[near_GK] - centers_G3[:, None], colors_P3[near_GK]], dim=-1)  # (G, K, 6)
    return Groups(points, centers_G3, xyz_P3[chosen_G])


def farthest_points(cloud_P3: Tensor, count: int) -> Tensor:
    """Return the numbers `(count,)` of points far from each other: the first, then always the farthest from those.

    Args:
        cloud_P3: `(P, 3)`.
        count: at most P.
    """
    chosen = torch.zeros(count, dtype=torch.int64)
    distance_P = torch.full((len(cloud_P3),), torch.inf)
    for number in range(1, count):
        distance_P = torch.minimum(distance_P, (cloud_P3 - cloud_P3[chosen[number - 1]]).square().sum(dim=1))
        chosen[number] = distance_P.argmax()
    return chosen


def nearest_points(centers_G3: Tensor, cloud_P3: Tensor, count: int) -> Tensor:
    """Return the numbers `(G, count)` of the points nearest to every centre, nearest first."""
    return torch.cdist(centers_G3, cloud_P3).topk(count, dim=1, largest=False).indices
