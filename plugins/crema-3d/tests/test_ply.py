"""Ply files: what is written by hand, with every format, type and list, is what is read; plyfile agrees."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from crema_3d.files import read_points
from crema_3d.ply import read_vertices
from crema_core.errors import MediaError

FORMATS = {"ascii": "", "binary_little_endian": "<", "binary_big_endian": ">"}
TYPES = {"char": "b", "uchar": "B", "short": "h", "ushort": "H", "int": "i", "uint": "I", "float": "f", "double": "d"}
Property = tuple[str, str, str | None]
"""Name, type, and the type of the length of a list."""
Element = tuple[list[Property], list[list[Any]]]
"""Properties and rows."""


def write_ply(path: Path, elements: dict[str, Element], *, how: str = "ascii") -> Path:
    """Write rows of numbers and, for lists, lists of numbers."""
    order, header, body = FORMATS[how], ["ply", f"format {how} 1.0", "comment by hand"], b""
    for name, (properties, rows) in elements.items():
        header.append(f"element {name} {len(rows)}")
        for own, kind, counted_by in properties:
            header.append(f"property {f'list {counted_by} ' if counted_by else ''}{kind} {own}")
        for row in rows:
            for (_, kind, counted_by), value in zip(properties, row, strict=True):
                numbers = value if counted_by else [value]
                if order:
                    body += struct.pack(f"{order}{TYPES[counted_by]}", len(value)) if counted_by else b""
                    body += struct.pack(f"{order}{len(numbers)}{TYPES[kind]}", *numbers)
                else:
                    body += f"{len(value)} ".encode() if counted_by else b""
                    body += "".join(f"{number!r} " for number in numbers).encode()
            body += b"" if order else b"\n"
    path.write_bytes("\n".join([*header, "end_header", ""]).encode() + body)
    return path


def xyz(kind: str = "float") -> list[Property]:
    return [(axis, kind, None) for axis in "xyz"]


@settings(max_examples=60, deadline=None)
@given(
    how=st.sampled_from(sorted(FORMATS)),
    place=st.sampled_from(["float", "double", "short", "int"]),
    color=st.sampled_from([None, "uchar", "ushort"]),
    names=st.sampled_from(
        [("red", "green", "blue"), ("r", "g", "b"), ("diffuse_red", "diffuse_green", "diffuse_blue")]
    ),
    lists=st.sampled_from([None, "even", "uneven"]),
    faces=st.sampled_from([None, "before", "behind"]),
    texture=st.booleans(),
    count=st.integers(1, 9),
    seed=st.integers(0, 99),
)
def test_points_and_colours_of_every_kind_of_file(
    tmp_path_factory: pytest.TempPathFactory, how: str, place: str, color: str | None, names: tuple[str, ...],
    lists: str | None, faces: str | None, texture: bool, count: int, seed: int,
) -> None:  # fmt: skip
    random = np.random.default_rng(seed)
    whole = place in ("short", "int")
    places = random.integers(-99, 99, (count, 3)) if whole else random.normal(size=(count, 3)).astype(np.float32)
    colors = random.integers(0, 256 if color == "uchar" else 65536, (count, 3))
    properties, columns = xyz(place), [[*map(int if whole else float, row)] for row in places]
    if lists:
        properties = [*properties, ("labels", "int", "uchar")]
        columns = [[*row, [7] * (2 if lists == "even" else n % 3)] for n, row in enumerate(columns)]
    if texture:
        properties = [*properties, ("s", "float", None), ("t", "float", None)]
        columns = [[*row, 0.5, 0.25] for row in columns]
    if color:
        properties = [*properties, *((name, color, None) for name in names)]
        columns = [[*row, *map(int, own)] for row, own in zip(columns, colors, strict=True)]
    face = ([("vertex_indices", "int", "uchar")], [[[0, 0, 0]], [[0] * 4]])
    elements = {"vertex": (properties, columns)}
    if faces:
        elements = {"face": face, **elements} if faces == "before" else {**elements, "face": face}
    path = write_ply(tmp_path_factory.mktemp("ply") / "a.ply", elements, how=how)
    points = read_points(path)
    assert torch.equal(points.xyz, torch.from_numpy(places.astype(np.float32)))
    if color is None:
        assert points.rgb is None
    else:
        assert points.rgb is not None
        full = 255 if colors.max() <= 255 else 65535
        torch.testing.assert_close(points.rgb, torch.from_numpy(colors).float() / full)


@pytest.mark.parametrize("how", FORMATS)
def test_plyfile_reads_the_same(tmp_path: Path, how: str) -> None:
    plyfile = pytest.importorskip("plyfile")
    rows = [[*np.random.default_rng(n).normal(size=3).tolist(), [n] * (n % 3), n, 2 * n, 3 * n] for n in range(20)]
    properties = [*xyz("double"), ("labels", "int", "uchar"), *((name, "ushort", None) for name in "rgb")]
    path = write_ply(tmp_path / "a.ply", {"vertex": (properties, rows)}, how=how)
    expected = plyfile.PlyData.read(str(path))["vertex"]
    read = read_vertices(path)
    assert list(read) == ["x", "y", "z", "r", "g", "b"]
    for name, values in read.items():
        assert np.array_equal(values, expected[name])
        assert values.dtype.itemsize == expected[name].dtype.itemsize


def test_a_large_file_with_uneven_lists_is_read_in_order(tmp_path: Path) -> None:
    rows = [[float(n), 0.0, 0.0, [1] * (n % 4)] for n in range(2000)]
    path = write_ply(tmp_path / "a.ply", {"vertex": ([*xyz(), ("l", "double", "int")], rows)}, how="binary_big_endian")
    assert read_points(path).xyz[:, 0].tolist() == [float(n) for n in range(2000)]


@pytest.mark.parametrize("kind", ["float", "double"])
@pytest.mark.parametrize("scale", [1.0, 255.0, 65535.0])
def test_float_colours_of_every_scale(tmp_path: Path, kind: str, scale: float) -> None:
    colors = np.array([[0.0, 0.5, 1.0], [0.25, 0.75, 0.125]])
    rows = [[0.0, 0.0, float(n), *(own * scale).tolist()] for n, own in enumerate(colors)]
    properties = [*xyz(), *((name, kind, None) for name in ("red", "green", "blue"))]
    rgb = read_points(write_ply(tmp_path / "a.ply", {"vertex": (properties, rows)})).rgb
    assert rgb is not None
    torch.testing.assert_close(rgb, torch.from_numpy(colors).float())


@pytest.mark.parametrize("how", FORMATS)
def test_a_file_cut_anywhere_is_refused(tmp_path: Path, how: str) -> None:
    rows = [[1.0, 2.0, float(n), [n] * 3, 9] for n in range(5)]
    properties = [*xyz(), ("labels", "int", "uchar"), ("red", "uchar", None)]
    whole = write_ply(tmp_path / "a.ply", {"vertex": (properties, rows)}, how=how).read_bytes()
    last = len(whole) if how != "ascii" else whole.rindex(b" 9")
    for length in range(3, last):
        (tmp_path / "b.ply").write_bytes(whole[:length])
        with pytest.raises(MediaError, match=r"cannot be read: it is (cut short|damaged)"):
            read_points(tmp_path / "b.ply")


@pytest.mark.parametrize(
    ("header", "cause"),
    [
        ("ply\nformat ascii 2\nelement vertex\nend_header\n", "its header has the line 'element vertex'"),
        ("ply\nformat xml 1.0\nend_header\n", "its header has the line 'format xml 1.0'"),
        ("ply\nformat ascii 1.0\nelement vertex 1\nproperty quad x\nend_header\n",
         "its header has the line 'property quad x'"),
        ("ply\nformat ascii 1.0\nelement face 0\nend_header\n",
         "it has the elements face, and points are those of 'vertex'"),
        ("ply\nformat ascii 1.0\nelement vertex 1\nproperty float x\nend_header\nred\n",
         "a row holds something else than numbers"),
    ],
)  # fmt: skip
def test_a_damaged_file_says_where(tmp_path: Path, header: str, cause: str) -> None:
    path = tmp_path / "a.ply"
    path.write_text(header)
    with pytest.raises(MediaError) as caught:
        read_points(path)
    assert str(caught.value).startswith(f"'{path}' cannot be read: it is damaged ({cause}")


def test_vertices_without_places_are_named(tmp_path: Path) -> None:
    path = write_ply(tmp_path / "a.ply", {"vertex": ([("x", "float", None), ("u", "float", None)], [[1.0, 2.0]])})
    with pytest.raises(MediaError) as caught:
        read_points(path)
    assert str(caught.value) == (
        f"'{path}' has vertices with x, u. A point cloud has the properties x, y and z. Rename them, or save it with "
        "numpy.savez(path, points=..., colors=...)."
    )


def test_faces_that_are_cut_off_tell_that_the_file_is(tmp_path: Path) -> None:
    faces: Element = ([("vertex_indices", "int", "uchar")], [[[0, 0, 0]]] * 9)
    vertices: Element = (xyz(), [[1.0, 2.0, 3.0]])
    for how in FORMATS:
        path = write_ply(tmp_path / "a.ply", {"vertex": vertices, "face": faces}, how=how)
        assert read_points(path).xyz.tolist() == [[1, 2, 3]]
        path.write_bytes(path.read_bytes()[: -110 if FORMATS[how] else -40])
        with pytest.raises(MediaError, match=r"cannot be read: it is cut short: it announces "):
            read_points(path)
