"""A cloud as a picture: three orthogonal views, in which nearer points hide farther ones."""

from __future__ import annotations

import torch
from torch import Tensor

from crema_core.data.media import colorize
from crema_core.data.sheet import line, scale_bar, sheet, stack

SIDE_PX, DOT_PX, GROUND = 320, 3, 0.12
VIEWS = (
    ("x right, y up, seen from +z", 0, 1, 2, 1),
    ("x right, z up, seen from -y", 0, 2, 1, -1),
    ("y right, z up, seen from +x", 1, 2, 0, 1),
)
"""What it is called, the axes across, up and towards the viewer, and the sign of the last (axes are right-handed)."""

ALIKE = "alike features look alike (their three principal directions)"
"""What `principal_colors` says, for the text."""


def draw_points(
    xyz_N3: Tensor, rgb_N3: Tensor | None, *, num_available: int, unit: str = "m", colors: str = "as in the source"
) -> Tensor:
    """Return `(H, W, 3)` uint8: the cloud along each axis, one scale for all three.

    Args:
        xyz_N3: `(N, 3)`.
        rgb_N3: `(N, 3)` in 0..1; None: colours by the third coordinate.
        num_available: points of the source, of which these are a part.
        unit: what the numbers count, for the text.
        colors: what `rgb_N3` says, for the text.
    """
    low, high = xyz_N3.amin(dim=0), xyz_N3.amax(dim=0)
    size = float((high - low).max().clamp(min=1e-6))
    colors_N3 = rgb_N3 if rgb_N3 is not None else _by_height(xyz_N3[:, 2])
    placed = (xyz_N3 - (low + high) / 2) / size + 0.5  # 0..1 along every axis, one scale
    views = [
        _view(placed[:, across], placed[:, up], sign * placed[:, towards], colors_N3)
        for _, across, up, towards, sign in VIEWS
    ]
    ranges = ", ".join(
        f"{name} {a:.2f}..{b:.2f}" for name, a, b in zip("xyz", low.tolist(), high.tolist(), strict=True)
    )
    of = "" if num_available == len(xyz_N3) else f" of {num_available:,}"
    notes = [line(f"{len(xyz_N3):,}{of} points; {ranges} {unit}; every view is {size:.2f} {unit} wide")]
    if rgb_N3 is None:
        notes.append(scale_bar("turbo", f"z {float(low[2]):.2f} {unit}", f"z {float(high[2]):.2f} {unit}"))
    else:
        notes.append(line(f"colours: {colors}"))
    return stack([sheet(torch.stack(views), [name for name, *_ in VIEWS], height=SIDE_PX), *notes])


def principal_colors(features_ND: Tensor) -> Tensor:
    """Return colours `(N, 3)` in 0..1 by the three principal directions of the features: alike looks alike."""
    centered = features_ND - features_ND.mean(dim=0)
    _, _, directions = torch.pca_lowrank(centered, q=min(3, *centered.shape), center=False, niter=4)
    scores = centered @ directions  # (N, 3 or fewer)
    scores = torch.nn.functional.pad(scores, (0, 3 - scores.shape[1]))
    spread = scores.std(dim=0, unbiased=False).clamp(min=1e-6)
    return (scores / spread / 4 + 0.5).clamp(0, 1)


def _by_height(values_N: Tensor) -> Tensor:
    share = (values_N - values_N.min()) / (values_N.max() - values_N.min()).clamp(min=1e-6)
    return colorize(share[None, None], "turbo")[0, :, 0].T


def _view(across_N: Tensor, up_N: Tensor, nearness_N: Tensor, colors_N3: Tensor) -> Tensor:
    """Return `(3, SIDE_PX, SIDE_PX)`: every point a square of `DOT_PX`, the nearest of a pixel's points on it."""
    room = SIDE_PX - DOT_PX
    column = (across_N * room).round().long().clamp(0, room)
    row = ((1 - up_N) * room).round().long().clamp(0, room)
    order = nearness_N.argsort(stable=True)
    offsets = torch.arange(DOT_PX)
    rows = row[order, None, None] + offsets[:, None]
    pixels = (rows * SIDE_PX + column[order, None, None] + offsets).flatten(1)  # (N, DOT_PX * DOT_PX)
    ranks = torch.arange(len(order))[:, None].expand_as(pixels)
    # The rank of the nearest point on every pixel; -1 where there is none.
    nearest = torch.full((SIDE_PX * SIDE_PX,), -1).scatter_reduce_(0, pixels.flatten(), ranks.flatten(), "amax")
    picture = torch.full((SIDE_PX * SIDE_PX, 3), GROUND)
    picture[nearest >= 0] = colors_N3[order[nearest[nearest >= 0]]].float()
    return picture.T.reshape(3, SIDE_PX, SIDE_PX)
