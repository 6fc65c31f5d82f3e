"""Laser scans as surveyors store them: las and laz, where laspy is installed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from crema_3d.values import map_origin
from crema_core.data.media import unreadable
from crema_core.errors import MediaError

SUFFIXES = (".las", ".laz")
WHAT = "a laser scan"
FULL = 65535.0


def read_las(path: Path) -> tuple[Tensor, Tensor | None]:
    """Read positions `(N, 3)` in the file's unit, moved to the first point's neighbourhood, and colours 0..1 or None.

    Survey coordinates are millions of metres from their origin, which float32 cannot resolve; the whole-metre
    part of the smallest corner is taken away, or what `map_origin` returns.

    Raises:
        MediaError: when laspy is absent, or the file is damaged.
    """
    try:
        import laspy
    except ImportError as error:
        raise MediaError(
            f"'{path}' is a laser scan, and the library that reads those is not installed. Accepted without it: .ply, "
            '.npz, .npy, .xyz, .pts, .pcd. Run: pip install "crema-3d[las]"'
        ) from error
    library: Any = laspy
    try:
        scan = library.read(str(path))
        xyz = np.stack([np.asarray(getattr(scan, axis), dtype=np.float64) for axis in "xyz"], axis=1)
        names = set(scan.point_format.dimension_names)
        rgb = None
        if {"red", "green", "blue"} <= names:
            rgb = np.stack([np.asarray(scan[name], dtype=np.float32) for name in ("red", "green", "blue")], axis=1)
    except Exception as error:
        raise unreadable(
            path,
            error,
            library="laspy",
            holds={"a laser scan"},
            what=WHAT,
            suffixes=SUFFIXES,
            convert="Convert it to .las 1.2 to 1.4, or to .ply.",
            unsupported="backend" in str(error).lower() or "version" in str(error).lower(),
        ) from error
    places = torch.from_numpy(xyz)
    if len(places):
        origin = map_origin(places)
        places = places - (places.amin(0).floor() if origin is None else origin)
    if rgb is not None and not rgb.any():
        rgb = None  # point formats have fields of colour whether or not a scanner had a camera
    if rgb is not None:  # 16 bit by the standard; many writers store 8
        rgb = rgb / (FULL if len(rgb) and rgb.max() > 255 else 255.0)
    return places.float(), None if rgb is None else torch.from_numpy(rgb)
