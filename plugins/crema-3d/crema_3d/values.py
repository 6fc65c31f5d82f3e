"""What the numbers of a cloud become, whichever file they are from: places near the origin, colours in 0..1."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from crema_core.errors import MediaError

FAR = 10_000.0
"""From here on float32 does not tell millimetres apart."""
FAR_IN_SIZES = 4.0
"""A cloud farther from the origin than so many times its own size is in coordinates of a map."""
DEVIATIONS = 4
"""Median deviations from the median that an evenly filled cloud is wide."""
BYTE, SIXTEEN = 255.0, 65535.0
NAMES = (("red", "green", "blue"), ("r", "g", "b"), ("diffuse_red", "diffuse_green", "diffuse_blue"))
"""What writers call the colours of a point."""


def near_origin(xyz: Tensor) -> Tensor:
    """Move places in coordinates of a map near the origin, before float32 would round them.

    Anything else stays where it is: its origin is the viewer.

    Args:
        xyz: `(N, 3)` numbers of any type.

    Returns:
        `(N, 3)` float32.
    """
    origin = map_origin(xyz)
    return xyz.float() if origin is None else (xyz.double() - origin).float()


def map_origin(xyz: Tensor) -> Tensor | None:
    """Return what to take away from places in coordinates of a map; None for other places.

    Map coordinates (UTM, national grids) are up to millions of metres, which float32 resolves to half a metre. It is
    the whole-metre part of the smallest corner, as of laser scans; where stray points, often at 0 0 0, lie far from
    all others, that of the median, so that the others keep their millimetres.

    Args:
        xyz: `(N, 3)` numbers of any type.

    Returns:
        `(3,)` float64.
    """
    if len(xyz) == 0:
        return None
    low, high = (end.double() for end in (xyz.amin(0), xyz.amax(0)))
    farthest, size = float(torch.maximum(low.abs(), high.abs()).max()), float((high - low).max())
    if farthest <= FAR or not bool(torch.isfinite(low + high).all()):
        return None
    if farthest > FAR_IN_SIZES * size:
        return low.floor()
    middle = xyz.double().median(0).values
    deviation = float((xyz.double() - middle).abs().median(0).values.max())
    is_far = float(middle.abs().max()) > max(FAR, FAR_IN_SIZES * DEVIATIONS * deviation)
    return middle.floor() if is_far else None


def unit_colors(rgb: Tensor, *, name: str) -> Tensor:
    """Bring colours to 0..1: floats in 0..1, or 0..255 and 0..65535 in any number type.

    Args:
        rgb: `(N, 3)`; of more columns the first three.
        name: of the source, for the message.

    Raises:
        MediaError: when colours are negative, not finite, or beyond 65535.
    """
    rgb = rgb[:, :3]
    if rgb.numel() == 0:
        return rgb.float()
    low, high = float(rgb.min()), float(rgb.max())
    if not (low >= 0 and high <= SIXTEEN):
        raise MediaError(
            f"{name} has colours from {low:g} to {high:g}. Colours are floats in 0..1, or numbers in 0..255 or "
            "0..65535; normals are no colours. Scale them, or leave them out and pass x y z alone."
        )
    if rgb.is_floating_point() and high <= 1.001:  # a rounding error above 1 makes no byte
        return rgb.float().clamp(max=1.0)
    return rgb.float() / (BYTE if high <= BYTE else SIXTEEN)


def named_points(columns: Mapping[str, NDArray[np.generic]]) -> tuple[Tensor, Tensor | None] | None:
    """Return positions `(N, 3)` and colours `(N, 3)` or None, from columns that have names; None where x y z lack.

    Args:
        columns: name -> `(N,)`; names in lower case.
    """
    if not {"x", "y", "z"} <= set(columns):
        return None
    found = next((names for names in NAMES if set(names) <= set(columns)), None)
    xyz = np.stack([as_native(columns[axis]) for axis in "xyz"], axis=1)
    rgb = None if found is None else np.stack([as_native(columns[name]) for name in found], axis=1)
    return torch.from_numpy(xyz), None if rgb is None else torch.from_numpy(rgb)


def as_native(values: Any) -> NDArray[np.generic]:
    """Return numbers in this machine's byte order and a type torch has."""
    array = np.asarray(values)
    array = array.astype(array.dtype.newbyteorder("="), copy=False)
    wider = {"u2": np.int32, "u4": np.int64, "u8": np.int64}  # torch has these, but few operations on them
    kind = wider.get(array.dtype.str[1:])
    return array if kind is None else array.astype(kind)
