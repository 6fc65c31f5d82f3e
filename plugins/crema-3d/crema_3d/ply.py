"""Points of a ply file: every property of its vertices, as the header declares them, in the order of the file.

Written here on numpy because what is wanted is small: readers of meshes drop colours beside texture coordinates, number
points anew where faces share them, and refuse properties that are lists.
"""

from __future__ import annotations

import io
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from crema_core.data.media import require_room, require_size

_TYPES = {
    "char": "i1", "uchar": "u1", "short": "i2", "ushort": "u2", "int": "i4", "uint": "u4", "float": "f4",
    "double": "f8", "int8": "i1", "uint8": "u1", "int16": "i2", "uint16": "u2", "int32": "i4", "uint32": "u4",
    "float32": "f4", "float64": "f8", "int64": "i8", "uint64": "u8",
}  # fmt: skip
_FORMATS = {"ascii": "", "binary_little_endian": "<", "binary_big_endian": ">"}
_POINTS = ("vertex", "vertices", "point", "points")
MOST_HEADER = 1 << 20


class PlyError(ValueError):
    """A file is no ply file, is cut short, or does not hold what its header declares."""


class CutPlyError(PlyError):
    """A file ends before what its header declares."""


class _Property(NamedTuple):
    name: str
    kind: str  # numpy's name of the number type
    counted_by: str | None  # type of the length in front of a list; None: a single number


class _Element(NamedTuple):
    name: str
    num_rows: int
    properties: list[_Property]

    @property
    def smallest(self) -> int:
        """Bytes of a binary row whose lists are empty."""
        return sum(np.dtype(own.counted_by or own.kind).itemsize for own in self.properties)


def read_vertices(path: Path) -> dict[str, NDArray[np.generic]]:
    """Read the single numbers of every vertex; lists are passed over.

    Returns:
        property name in lower case -> `(N,)` in the file's number type (ascii: float64 for floats).

    Raises:
        PlyError: when it is no ply file, has no vertices, or is damaged; `CutPlyError` when it is cut short.
        MediaError: when it needs more memory than one source may take.
    """
    require_size(path)
    raw = path.read_bytes()
    order, elements, begin = _header(raw)
    names = [element.name for element in elements]
    chosen = next((names.index(name) for name in _POINTS if name in names), None)
    if chosen is None:
        raise PlyError(f"it has the elements {', '.join(names) or 'none'}, and points are those of 'vertex'")
    num_points, num_numbers = elements[chosen].num_rows, len(elements[chosen].properties)
    least = elements[chosen].smallest if order else 2 * num_numbers
    if num_points * least <= len(raw) - begin:  # else it is cut short, which is said below
        require_room(path, 8 * num_points * num_numbers, f"{num_points:,} points of {num_numbers} numbers")
    if order == "":
        return _of_text(raw[begin:], elements, chosen)
    for element in elements[:chosen]:
        begin = _rows(raw, begin, element, order)[1]
    columns, end = _rows(raw, begin, elements[chosen], order)
    behind = sum(element.num_rows * element.smallest for element in elements[chosen + 1 :])
    if end + behind > len(raw):
        raise CutPlyError(f"it announces at least {end + behind:,} bytes and holds {len(raw):,}")
    return columns


def _header(raw: bytes) -> tuple[str, list[_Element], int]:
    """Return the byte order ("" for text), the elements, and where they begin."""
    if not raw.startswith(b"ply"):
        raise PlyError("it does not begin with 'ply'")
    order: str | None = None
    elements: list[_Element] = []
    position = 0
    while position < min(len(raw), MOST_HEADER):
        end = raw.find(b"\n", position)
        if end < 0:
            break
        words = raw[position:end].decode("latin-1").split()
        position = end + 1
        try:
            match words:
                case ["format", name, *_]:
                    order = _FORMATS[name]
                case ["element", name, count]:
                    elements.append(_Element(name.lower(), int(count), []))
                case ["property", "list", length, kind, name]:
                    elements[-1].properties.append(_Property(name.lower(), _TYPES[kind], _TYPES[length]))
                case ["property", kind, name]:
                    elements[-1].properties.append(_Property(name.lower(), _TYPES[kind], None))
                case ["end_header"]:
                    if order is None or any(element.num_rows < 0 for element in elements):
                        raise PlyError("its header has no format or a negative count")
                    return order, elements, position
                case [] | ["ply" | "comment" | "obj_info", *_]:
                    continue
                case _:
                    raise ValueError
        except (KeyError, IndexError, ValueError) as error:
            raise PlyError(f"its header has the line '{' '.join(words)}'") from error
    raise CutPlyError("its header has no end")


def _of_text(body: bytes, elements: list[_Element], chosen: int) -> dict[str, NDArray[np.generic]]:
    element = elements[chosen]
    before = sum(own.num_rows for own in elements[:chosen])
    if before == 0 and element.num_rows > 0 and not any(own.counted_by for own in element.properties):
        return _of_plain_text(body, element, behind=sum(own.num_rows for own in elements[chosen + 1 :]))
    lines = [line for line in body.split(b"\n") if line.strip()]
    announced = sum(own.num_rows for own in elements)
    if len(lines) < announced:
        raise CutPlyError(f"it announces {announced:,} rows and holds {len(lines):,}")
    rows = lines[before : before + element.num_rows]
    if any(own.counted_by for own in element.properties):
        table = np.array([list(_numbers_of(row.split(), element)) for row in rows])
    else:
        words = b" ".join(rows).split()
        if len(words) != element.num_rows * len(element.properties):
            raise PlyError(f"its rows do not have {len(element.properties)} numbers each")
        table = np.array(words).reshape(element.num_rows, len(element.properties))
    single = [own for own in element.properties if own.counted_by is None]
    try:
        wide = {own.name: table[:, index].astype(np.float64) for index, own in enumerate(single)}
    except (ValueError, IndexError) as error:
        raise PlyError(f"a row holds something else than numbers, {error}") from error
    return {own.name: values if own.kind[0] == "f" else values.astype(own.kind) for own, values in zip(
        single, wide.values(), strict=True)}  # fmt: skip


def _of_plain_text(body: bytes, element: _Element, *, behind: int) -> dict[str, NDArray[np.generic]]:
    """Read rows of single numbers, which are most files, without a Python object for every number."""
    held = body.count(b"\n") + (not body.endswith(b"\n"))
    if held < element.num_rows + behind:
        raise CutPlyError(f"it announces {element.num_rows + behind:,} rows and holds {held:,}")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # no row at all
            table = np.loadtxt(io.BytesIO(body), max_rows=element.num_rows, ndmin=2, comments=None)
    except (ValueError, UserWarning) as error:
        raise PlyError(f"a row holds something else than numbers, {error}") from error
    if len(table) < element.num_rows:
        raise CutPlyError(f"it announces {element.num_rows:,} rows and holds {len(table):,}")
    if table.shape[1] != len(element.properties):
        raise PlyError(f"its rows have {table.shape[1]} numbers, and its header declares {len(element.properties)}")
    return {
        own.name: table[:, index] if own.kind[0] == "f" else table[:, index].astype(own.kind)
        for index, own in enumerate(element.properties)
    }


def _numbers_of(words: list[bytes], element: _Element) -> Iterator[bytes]:
    """Yield the single numbers of a row of text."""
    position = 0
    try:
        for own in element.properties:
            if own.counted_by is None:
                yield words[position]
                position += 1
            else:
                position += 1 + int(words[position])
    except (IndexError, ValueError) as error:
        raise PlyError("a row has fewer numbers than its lists announce") from error


def _rows(raw: bytes, begin: int, element: _Element, order: str) -> tuple[dict[str, NDArray[np.generic]], int]:
    """Return the single numbers of an element's rows, and where the element ends."""
    if element.num_rows * element.smallest > len(raw) - begin:
        raise CutPlyError(
            f"it announces {element.num_rows:,} rows of at least {element.smallest} bytes of '{element.name}' and "
            f"holds {len(raw) - begin:,} bytes"
        )
    single = [own for own in element.properties if own.counted_by is None]
    if not element.properties or element.num_rows == 0:
        return {own.name: np.empty(0, own.kind) for own in single}, begin
    lengths = _lengths_of(raw, begin, element, order)
    row = _row_type(element, lengths, order)
    size = element.num_rows * row.itemsize
    if begin + size <= len(raw):
        table = np.frombuffer(raw, row, element.num_rows, offset=begin)
        if all((table[f"length {number}"] == length).all() for number, length in lengths.items()):
            return {own.name: table[f"number {index}"] for index, own in _numbered(element) if own in single}, (
                begin + size
            )
    return _uneven_rows(raw, begin, element, order)


def _numbered(element: _Element) -> Iterator[tuple[int, _Property]]:
    yield from enumerate(element.properties)


def _lengths_of(raw: bytes, begin: int, element: _Element, order: str) -> dict[int, int]:
    """Return the length of every list in an element's first row."""
    lengths, position = {}, begin
    for index, own in _numbered(element):
        if own.counted_by is None:
            position += np.dtype(own.kind).itemsize
            continue
        length, position = _length(raw, position, own, order)
        lengths[index] = length
    return lengths


def _length(raw: bytes, position: int, own: _Property, order: str) -> tuple[int, int]:
    """Return the length of the list that begins at `position`, and where the list ends."""
    counter = np.dtype(order + (own.counted_by or ""))
    if position + counter.itemsize > len(raw):
        raise CutPlyError("it ends within a list")
    length = int(np.frombuffer(raw, counter, 1, offset=position)[0])
    end = position + counter.itemsize + length * np.dtype(own.kind).itemsize
    if length < 0 or end > len(raw):
        raise CutPlyError(f"it has a list of {length:,} numbers and ends before them")
    return length, end


def _row_type(element: _Element, lengths: dict[int, int], order: str) -> np.dtype[np.void]:
    fields: list[tuple[str, str] | tuple[str, str, tuple[int]]] = []
    for index, own in _numbered(element):
        if own.counted_by is None:
            fields.append((f"number {index}", order + own.kind))
        else:
            fields.append((f"length {index}", order + own.counted_by))
            fields.append((f"list {index}", order + own.kind, (lengths[index],)))
    return np.dtype(fields)


def _uneven_rows(raw: bytes, begin: int, element: _Element, order: str) -> tuple[dict[str, NDArray[np.generic]], int]:
    """Read rows whose lists differ in length, one after the other."""
    single = [own for own in element.properties if own.counted_by is None]
    offsets = {own.name: np.empty(element.num_rows, np.int64) for own in single}
    position = begin
    for number in range(element.num_rows):
        for own in element.properties:
            if own.counted_by is None:
                offsets[own.name][number] = position
                position += np.dtype(own.kind).itemsize
            else:
                _, position = _length(raw, position, own, order)
    if position > len(raw):
        raise CutPlyError(f"it announces {element.num_rows:,} rows of '{element.name}' and ends before them")
    content = np.frombuffer(raw, np.uint8)
    columns = {}
    for own in single:
        kind = np.dtype(order + own.kind)
        picked = content[offsets[own.name][:, None] + np.arange(kind.itemsize)]
        columns[own.name] = np.ascontiguousarray(picked).view(kind)[:, 0]
    return columns, position
