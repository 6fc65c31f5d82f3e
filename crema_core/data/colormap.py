"""Colour maps as short tables: a number in 0..1 becomes a colour the frozen vision encoder can tell apart.

Anchors are interpolated linearly. `turbo` separates near and far by hue, `inferno` goes from black through red to
yellow as heat does, `grey` repeats the number in three channels as the paper's preprocessing did.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

ColormapName = Literal["turbo", "inferno", "grey"]

_ANCHORS: dict[str, tuple[tuple[int, int, int], ...]] = {
    "turbo": (
        (48, 18, 59), (70, 107, 227), (40, 187, 236), (49, 242, 153), (162, 252, 60),
        (237, 208, 58), (251, 128, 34), (209, 48, 5), (122, 4, 3),
    ),
    "inferno": (
        (0, 0, 4), (31, 12, 72), (85, 15, 109), (136, 34, 106), (186, 54, 85),
        (227, 89, 51), (249, 140, 10), (249, 201, 50), (252, 255, 164),
    ),
    "grey": ((0, 0, 0), (255, 255, 255)),
}  # fmt: skip


def colorize(values: Tensor, colormap: ColormapName) -> Tensor:
    """Turn numbers into colours.

    Args:
        values: `(T, H, W)` float, clamped to 0..1.
        colormap: which table.

    Returns:
        `(T, 3, H, W)` float32 in 0..1.
    """
    anchors = torch.tensor(_ANCHORS[colormap], dtype=torch.float32) / 255
    position = values.float().clamp(0, 1) * (len(anchors) - 1)
    low = position.floor().clamp(max=len(anchors) - 2).long()
    share = (position - low)[..., None]
    colors = anchors[low] * (1 - share) + anchors[low + 1] * share
    return colors.permute(0, 3, 1, 2).contiguous()
