"""Points of text tables (xyz, pts), of the Point Cloud Library (pcd), and of E57 scans where pye57 is installed."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import chain, pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from crema_3d.values import named_points
from crema_core.data.media import require_room, require_size, unreadable
from crema_core.errors import CremaError, MediaError

Cloud = tuple[Tensor, Tensor | None]
"""Positions `(N, 3)` and colours `(N, 3)` or None, in the file's own numbers."""
TABLE_SUFFIXES, PCD_SUFFIXES, E57_SUFFIXES = (".xyz", ".pts"), (".pcd",), (".e57",)
_COLUMNS = {
    3: "x y z",
    4: "x y z intensity",
    6: "x y z red green blue",
    7: "x y z intensity red green blue",
    9: "x y z red green blue nx ny nz",
}
_NORMALS = {6: "x y z nx ny nz", 9: "x y z nx ny nz red green blue"}
_PCD_TYPES = {"F": "f", "I": "i", "U": "u"}


class CloudError(ValueError):
    """A file of points does not hold what its beginning announces."""


class CutCloudError(CloudError):
    """A file of points ends before what it announces."""


def read_table(path: Path) -> Cloud:
    """Read a text table: a point per row, x y z first, columns apart by spaces, commas or semicolons.

    A first row of names tells which columns are which; without one their number does (3, 4 with intensity, 6 with
    colours or normals, 7 with intensity and colours, 9 with colours and normals). A first row of one number counts the
    points.

    Raises:
        CloudError: when rows differ in length, or hold something else than numbers.
    """
    require_size(path)
    names: list[str] = []
    announced: int | None = None
    with path.open(encoding="utf-8-sig", errors="replace") as file:
        for line in file:
            words = _words(line)
            if {"x", "y", "z"} <= {word.lower() for word in words}:
                names = [word.lower() for word in words]
            elif not words or line.lstrip().startswith(("#", "//")):
                continue
            elif announced is None and len(words) == 1 and words[0].isdigit():
                announced = int(words[0])
            else:
                break
        else:
            raise CloudError("it holds no row of numbers")
        table = _numbers(chain([line], file))
    if announced is not None and announced > len(table):
        raise CutCloudError(f"it announces {announced:,} points and holds {len(table):,}")
    if names and len(names) != table.shape[1]:
        raise CloudError(f"it names {len(names)} columns and has {table.shape[1]}")
    return _of_columns(table, names or _names_of(table))


def _words(line: str) -> list[str]:
    return re.split(r"[\s,;]+", line.strip().lstrip("#/").strip(" \t,;")) if line.strip() else []


def _numbers(lines: Iterator[str]) -> NDArray[np.float64]:
    """Return rows of numbers `(N, columns)`, without a Python object for every number."""
    try:
        plain = (line.replace(",", " ").replace(";", " ") for line in lines)
        return np.loadtxt(plain, ndmin=2, comments=("#", "//"))
    except ValueError as error:
        raise CloudError(f"a row holds something else than as many numbers as the first, {error}") from error


def _names_of(table: NDArray[np.float64]) -> list[str]:
    width = table.shape[1]
    if width not in _COLUMNS:
        raise CloudError(f"its rows have {width} columns without names; known are {', '.join(map(str, _COLUMNS))}")
    if width in _NORMALS:
        four_to_six = table[:, 3:6]
        lengths = np.linalg.norm(four_to_six, axis=1)
        if four_to_six.min() < 0 or (np.abs(lengths - 1) < 1e-2).all():
            return _NORMALS[width].split()
    return _COLUMNS[width].split()


def _of_columns(table: NDArray[Any], names: list[str]) -> Cloud:
    found = named_points({name: table[:, number] for number, name in enumerate(names)})
    assert found is not None, "x y z were looked for"
    return found


def read_pcd(path: Path) -> Cloud:
    """Read a pcd file: ascii, binary or compressed; points without a place (not finite) are left out, as PCL does.

    Raises:
        CloudError: when the header lacks something or the data are damaged; `CutCloudError` when they end early.
    """
    require_size(path)
    raw = path.read_bytes()
    header, begin = _pcd_header(raw)
    try:
        fields = [name.lower() for name in header["FIELDS"]]
        counts = [int(count) for count in header.get("COUNT", ["1"] * len(fields))]
        kinds = [f"<{_PCD_TYPES[kind]}{size}" for kind, size in zip(header["TYPE"], header["SIZE"], strict=True)]
        number = int(header["POINTS"][0]) if "POINTS" in header else int(header["WIDTH"][0]) * int(header["HEIGHT"][0])
        row = np.dtype([(f"{i}", kind, (n,)) for i, (kind, n) in enumerate(zip(kinds, counts, strict=True))])
        if len(fields) != len(kinds) or number < 0 or min(counts) < 1:
            raise ValueError(f"{len(fields)} names, {len(kinds)} types, {number} points, {counts} numbers each")
    except (KeyError, IndexError, ValueError, TypeError) as error:
        raise CloudError(f"its header lacks something or has unknown words ({error})") from error
    if header["DATA"][:1] != ["binary"] or len(raw) - begin >= number * row.itemsize:  # else it is cut short
        require_room(path, number * max(row.itemsize, 8 * sum(counts)), f"{number:,} points of {sum(counts)} numbers")
    columns = _pcd_columns(raw[begin:], header["DATA"][:1], row, number)
    named = {name: columns[i][:, 0] for i, name in enumerate(fields) if columns[i].shape[1] == 1}
    packed = named.pop("rgb", named.pop("rgba", None))
    if packed is not None:  # three bytes in one number, whose type may be float
        whole = np.ascontiguousarray(packed).view(np.uint32) if packed.dtype.itemsize == 4 else packed.astype(np.uint32)
        bytes_of = {"red": 16, "green": 8, "blue": 0}
        named |= {name: (whole >> shift & 255).astype(np.uint8) for name, shift in bytes_of.items()}
    found = named_points(named)
    if found is None:
        raise CloudError(f"it has the fields {' '.join(fields)}, and a point cloud has x y z")
    known = torch.isfinite(found[0]).all(dim=1)
    return found[0][known], None if found[1] is None else found[1][known]


def _pcd_header(raw: bytes) -> tuple[dict[str, list[str]], int]:
    header: dict[str, list[str]] = {}
    position = 0
    while (end := raw.find(b"\n", position)) >= 0 and position < 1 << 16:
        words = raw[position:end].decode("latin-1").split()
        position = end + 1
        if words and not words[0].startswith("#"):
            header[words[0].upper()] = words[1:]
        if words[:1] == ["DATA"]:
            return header, position
    raise CutCloudError("its header has no line DATA") if header else CloudError("it has no header of a pcd file")


def _pcd_columns(body: bytes, how: list[str], row: Any, number: int) -> list[NDArray[Any]]:
    """Return `(N, count)` numbers of every field; `row` is the structured type of a point."""
    if how == ["ascii"]:
        return _ascii_columns(body, row, number)
    if how == ["binary_compressed"]:
        return _compressed_columns(body, row, number)
    if how != ["binary"]:
        raise CloudError(f"its data are '{' '.join(how)}', and known are ascii, binary and binary_compressed")
    if len(body) < number * row.itemsize:
        raise CutCloudError(f"it announces {number:,} points of {row.itemsize} bytes and holds {len(body):,} bytes")
    points: Any = np.frombuffer(body, row, number)
    return [points[name] for name in row.names]


def _ascii_columns(body: bytes, row: Any, number: int) -> list[NDArray[Any]]:
    edges = np.cumsum([0, *(row[name].shape[0] for name in row.names)]).tolist()
    words, width = body.split(), edges[-1]
    if len(words) < number * width:
        raise CutCloudError(f"it announces {number:,} points and holds {len(words) // max(width, 1):,}")
    try:
        table = np.array(words[: number * width]).astype(np.float64).reshape(number, width)
    except ValueError as error:
        raise CloudError(f"a row holds something else than numbers ({error})") from error
    parts = [table[:, low:high] for low, high in pairwise(edges)]
    return [part.astype(row[name].base) for name, part in zip(row.names, parts, strict=True)]


def _compressed_columns(body: bytes, row: Any, number: int) -> list[NDArray[Any]]:
    packed_size, size = (int(own) for own in np.frombuffer(body[:8].ljust(8, b"\0"), "<u4"))
    if len(body) - 8 < packed_size:
        raise CutCloudError(f"it announces {packed_size:,} compressed bytes and holds {max(len(body) - 8, 0):,}")
    if size > 2 * number * row.itemsize + 64:
        raise CloudError(f"its compressed data announce {size:,} bytes for {number:,} points of {row.itemsize} bytes")
    if size < number * row.itemsize:
        raise CutCloudError(f"it announces {number:,} points of {row.itemsize} bytes and holds {size:,} bytes")
    plain, columns, begin = unpack_lzf(body[8 : 8 + packed_size], size), [], 0
    for name in row.names:  # field by field, not point by point
        count = row[name].shape[0]
        numbers: NDArray[Any] = np.frombuffer(plain, row[name].base, number * count, offset=begin)
        columns.append(numbers.reshape(number, count))
        begin += number * row[name].itemsize
    return columns


def unpack_lzf(packed: bytes, size: int) -> bytes:
    """Return the `size` bytes of data compressed with LZF, as PCL writes them.

    >>> unpack_lzf(bytes([2]) + b"abc" + bytes([0b01000000, 2]), 7)
    b'abcabca'

    Raises:
        CloudError: when they are damaged.
    """
    out, position = bytearray(), 0
    try:
        while position < len(packed):
            control = packed[position]
            position += 1
            if control < 32:  # a run of bytes as they are
                out += packed[position : position + control + 1]
                position += control + 1
                continue
            length = control >> 5
            if length == 7:
                length += packed[position]
                position += 1
            start = len(out) - ((control & 31) << 8) - packed[position] - 1
            position += 1
            length += 2
            if start < 0 or len(out) > size:
                raise IndexError
            for _ in range(length // max(len(out) - start, 1) + 1):  # what is repeated may reach into itself
                piece = out[start : start + length]
                out += piece
                length -= len(piece)
                start += len(piece)
                if length == 0:
                    break
    except IndexError as error:
        raise CloudError("its compressed data are damaged") from error
    if len(out) != size:
        raise CloudError(f"its compressed data hold {len(out):,} of {size:,} bytes")
    return bytes(out)


def read_e57(path: Path) -> Cloud:
    """Read all scans of an E57 file, each put in its place by its pose.

    Raises:
        MediaError: when pye57 is absent, or it fails on the file.
    """
    try:
        import pye57
    except ImportError as error:
        raise MediaError(
            f"'{path}' is an E57 scan, and the library that reads those is not installed. Accepted without it: .ply, "
            '.npz, .npy, .xyz, .pts, .pcd. Run: pip install "crema-3d[e57]"'
        ) from error
    library: Any = pye57
    try:
        scans = library.E57(str(path))
        num_points = sum(scans.get_header(i).point_count for i in range(scans.scan_count))
        require_room(path, 36 * num_points, f"{num_points:,} points with colours")
        read = [scans.read_scan(i, colors=True, ignore_missing_fields=True) for i in range(scans.scan_count)]
        xyz = np.concatenate([np.stack([own[f"cartesian{axis}"] for axis in "XYZ"], axis=1) for own in read])
        names = ("colorRed", "colorGreen", "colorBlue")
        colored = all(name in own for own in read for name in names)
        rgb = np.concatenate([np.stack([own[name] for name in names], axis=1) for own in read]) if colored else None
    except CremaError:
        raise
    except Exception as error:
        raise unreadable(
            path,
            error,
            library="pye57",
            holds={"an E57 scan"},
            what="an E57 scan",
            suffixes=E57_SUFFIXES,
            convert="Convert it to ply.",
        ) from error
    return torch.from_numpy(xyz), None if rgb is None else torch.from_numpy(rgb)
