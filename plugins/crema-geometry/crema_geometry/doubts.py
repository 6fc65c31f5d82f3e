"""Maps whose numbers are unlikely to be what they are taken for; they are read all the same."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from crema_core.data.media import doubt
from crema_geometry.plugin import DepthOptions
from crema_geometry.render import known_depth

NEARLY_ALL = 0.9
"""From this share of pixels on outside the window a picture shows next to nothing."""
LARGEST = 65535
RELATIVE_HIGH, RELATIVE_LOW = 0.99, 0.05
"""Floats that reach 1 and no more, and begin near 0, are relative: nothing measures so."""


def doubt_depth(maps: NDArray[np.generic], metres_THW: Tensor, options: DepthOptions, *, name: str) -> None:
    """Note distances in another unit, disparities, and the largest 16-bit number.

    Args:
        maps: `(T, H, W)` as stored.
        metres_THW: the same in metres; 0 where unknown.
        options: the unit and the window.
        name: of the source, to begin a sentence.
    """
    whole = maps.dtype.kind in "iu"
    if whole and options.unknown_value is None and bool((maps == LARGEST).any()):
        doubt(
            "depth: 65535",
            f"{name} has pixels of 65535, read as {LARGEST / options.counts_per_metre:.1f} m. 0 is unknown, and many "
            "writers mark it with the largest number. Set unknown_value=65535.",
        )
    known = metres_THW[known_depth(metres_THW)]
    if len(known) == 0:
        return
    low, high = float(known.min()), float(known.max())
    if not whole and options.metres_per_unit == 1 and RELATIVE_HIGH <= high <= 1 and low < RELATIVE_LOW:
        doubt(
            "depth: relative",
            f"{name} has floats from {low:g} to {high:g}, as relative depth has. Distances are metres. Pass metric "
            "depth, or set metres_per_unit if 1 stands for a known distance.",
        )
    beyond, before = float((known > options.far_m).float().mean()), float((known < options.near_m).float().mean())
    if options.window != "fixed" or max(beyond, before) < NEARLY_ALL:
        return
    where = f"beyond far_m={options.far_m:g}" if beyond > before else f"nearer than near_m={options.near_m:g}"
    unit = "counts_per_metre" if whole else "metres_per_unit (0.001 for millimetres)"
    doubt(
        "depth: window",
        f"{name} has {100 * max(beyond, before):.0f} % of its known pixels {where} m, in the middle "
        f"{float(known.median()):.4g} m, and shows one colour. Distances are metres; disparities are none. Set {unit} "
        "for another unit, near_m and far_m or window='per_clip' for such distances, and convert disparities first "
        "(focal length x baseline / disparity).",
    )


def doubt_normals(maps: NDArray[Any], *, name: str) -> None:
    """Note floats that are colours: directions to all sides have negative parts.

    Args:
        maps: `(T, H, W, 3)` as stored.
        name: of the source, to begin a sentence.
    """
    if maps.dtype == np.uint8 or maps.dtype.kind != "f":
        return
    sides = maps[..., :2]
    usual = bool(np.nanmin(maps) >= 0) and bool(np.nanmax(maps) <= 1) if np.isfinite(maps).any() else False
    if usual and 0.25 < float(np.nanmean(sides)) < 0.75:
        doubt(
            "normals: colours",
            f"{name} has floats from {float(np.nanmin(maps)):.2g} to {float(np.nanmax(maps)):.2g}, as colours of "
            "directions have. Floats are directions in -1..1, uint8 numbers their colours. Pass 2 * values - 1.",
        )
