"""Laser scans as surveyors store them: las and laz, where laspy is installed."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch
from torch import Tensor

from crema_3d.values import map_origin
from crema_core.data.media import damaged, require_room, unreadable
from crema_core.errors import MediaError

SUFFIXES = (".las", ".laz")
WHAT = "a laser scan"
FULL = 65535.0
FULL_VERSION = 4
"""From LAS 1.4 on a header counts points in 64 bits, and long records behind them."""
SHORTEST_HEADER = 227
RECORD, LONG_RECORD, LEAST_POINT = 54, 60, 20
"""Bytes of the head of a record, of a long record, and of the smallest point."""
DECODED = 36
"""Bytes of a point's place and colours as they are returned, beside the point as it is stored."""
COMPRESSED, VARIABLE = 0x80, 0xFFFFFFFF
"""The bit of a point format, and the chunk size, of compressed points and of chunks of any size."""
MOST_RECORDS = 2**20
"""Bytes before the points in which the record about compression is looked for."""


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
    if cause := impossible(path):
        raise damaged(path, cause, what=WHAT, suffixes=SUFFIXES)
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


def impossible(path: Path) -> str | None:
    """Return what a header announces that a file of this size cannot hold; None where nothing is.

    Asked first, because the library walks through as many records, and makes room for as many points, as a damaged
    header names. Offsets are those of the LAS specification 1.4, table 3; the chunk table of compressed points is that
    of LASzip.

    Raises:
        MediaError: when as many points need more memory than one source may take.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        head = file.read(375)
        if head[:4] != b"LASF" or len(head) < SHORTEST_HEADER:
            return None  # the library has the better words
        head = head.ljust(375, b"\0")
        header_size, begin, num_records, kind, row_bytes = struct.unpack_from("<HIIBH", head, 94)
        (num_points,) = struct.unpack_from("<I", head, 107)
        if head[25] >= FULL_VERSION:
            long_begin, num_long, num_long_points = struct.unpack_from("<QIQ", head, 235)
            num_points = max(num_points, num_long_points)
            if num_long and long_begin + num_long * LONG_RECORD > size:
                return f"its header counts {num_long:,} long records, and there is room for fewer"
        if num_records * RECORD > max(begin - header_size, 0) or begin > size:
            return f"its header counts {num_records:,} records before the points, and there is room for fewer"
        if row_bytes < LEAST_POINT:
            return f"its header gives a point {row_bytes} bytes, and the smallest has {LEAST_POINT}"
        if not kind & COMPRESSED:
            if begin + num_points * row_bytes > size:
                return _too_few(num_points, (size - begin) // row_bytes)
            require_room(path, num_points * (row_bytes + DECODED), f"{num_points:,} points")
            return None
        cause = _impossible_chunks(file, size, begin=begin, num_points=num_points, row_bytes=row_bytes)
        if cause is None:
            require_room(path, num_points * (row_bytes + DECODED), f"{num_points:,} points")
        return cause


def _impossible_chunks(file: BinaryIO, size: int, *, begin: int, num_points: int, row_bytes: int) -> str | None:
    """Do so for compressed points: the first of every chunk is stored whole."""
    file.seek(begin)
    (table,) = struct.unpack("<q", file.read(8).ljust(8, b"\0"))
    if table <= begin or table + 8 > size:
        return None  # written to a stream: the table's place stands at the end, or nowhere
    file.seek(table + 4)
    (num_chunks,) = struct.unpack("<I", file.read(4))
    if num_chunks * row_bytes > table - begin:
        return f"it names {num_chunks:,} chunks of points, and there is room for fewer"
    file.seek(0)
    records = file.read(min(begin, MOST_RECORDS))
    # Behind the name follow the rest of the record's head and compressor, coder, version and options.
    place = records.find(b"laszip encoded") - 2 + RECORD + 12
    if not RECORD < place <= len(records) - 4:
        return None
    (chunk,) = struct.unpack_from("<I", records, place)
    if chunk in (0, VARIABLE) or num_points <= num_chunks * chunk:
        return None
    return _too_few(num_points, num_chunks * chunk)


def _too_few(num_points: int, most: int) -> str:
    return f"it is cut short: its header counts {num_points:,} points, and there is room for {max(most, 0):,}"
