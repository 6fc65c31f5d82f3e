"""Points of every other file: map coordinates, colours of every scale, text tables, pcd, E57, arrays."""

from __future__ import annotations

import struct
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from crema_3d.clouds import unpack_lzf
from crema_3d.files import read_points
from crema_core.errors import MediaError

XYZ = np.random.default_rng(0).uniform(-1, 1, (40, 3))
MAP_XYZ = XYZ + np.array([500_000, 5_400_000, 300])
RGB = np.random.default_rng(1).integers(0, 256, (40, 3))
NEAR = MAP_XYZ - np.floor(MAP_XYZ.min(axis=0))
EMPTY = {name: np.zeros(40, np.uint16) for name in ("red", "green", "blue")}


class Scan(dict):  # type: ignore[type-arg]
    """What laspy's reader gives, as far as it is used."""

    point_format = SimpleNamespace(dimension_names=["X", "red", "green", "blue"])
    x, y, z = MAP_XYZ.T


def write(path: Path, xyz: np.ndarray, rgb: np.ndarray | None = None) -> object:
    """Write a cloud in the format of the ending; return what names it."""
    both = xyz if rgb is None else np.concatenate([xyz, rgb], axis=1)
    rows = "\n".join(
        " ".join(f"{number:.6f}" if i < 3 else f"{int(number)}" for i, number in enumerate(r)) for r in both
    )
    names = ["x", "y", "z", *(["red", "green", "blue"] if rgb is not None else [])]
    if path.suffix == ".ply":
        kinds = ["double"] * 3 + ["uchar"] * 3
        properties = "\n".join(f"property {kind} {name}" for kind, name in zip(kinds, names, strict=False))
        path.write_text(f"ply\nformat ascii 1.0\nelement vertex {len(xyz)}\n{properties}\nend_header\n{rows}\n")
    elif path.suffix == ".npz":
        np.savez(path, points=xyz, **({} if rgb is None else {"colors": rgb}))
    elif path.suffix == ".npy":
        np.save(path, both)
    elif path.suffix == ".pcd":
        header = f"VERSION 0.7\nFIELDS x y z\nSIZE 8 8 8\nTYPE F F F\nCOUNT 1 1 1\nWIDTH {len(xyz)}\nHEIGHT 1\n"
        path.write_bytes(f"{header}POINTS {len(xyz)}\nDATA binary\n".encode() + xyz.astype("<f8").tobytes())
    else:
        path.write_text(rows)
    return path


@pytest.mark.parametrize(
    "name", ["a.ply", "a.npz", "a.npy", "a.xyz", "a.pts", "a.pcd", "array", "dict", "tensor", "a.las"]
)
def test_map_coordinates_keep_their_millimetres_whichever_file(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    source: object = {"array": MAP_XYZ, "dict": {"points": MAP_XYZ}, "tensor": torch.from_numpy(MAP_XYZ)}.get(name)
    if name == "a.las":
        monkeypatch.setitem(sys.modules, "laspy", SimpleNamespace(read=lambda path: Scan(EMPTY)))
        (tmp_path / name).write_bytes(b"LASF")
    if source is None:
        source = tmp_path / name if name == "a.las" else write(tmp_path / name, MAP_XYZ)
    xyz = read_points(source).xyz
    assert xyz.dtype == torch.float32
    assert len(set(xyz[:, 1].tolist())) == len(XYZ)
    torch.testing.assert_close(xyz, torch.from_numpy(NEAR).float(), atol=2e-6, rtol=0)


def test_a_cloud_around_the_viewer_stays_where_it_is() -> None:
    for scale in (1.0, 9_000.0, 50_000.0):  # the last is a room in millimetres, wide and around the origin
        values = (XYZ * scale).astype(np.float32)
        assert np.array_equal(read_points(values).xyz, values)


def test_laspy_agrees_on_a_scan(tmp_path: Path) -> None:
    laspy = pytest.importorskip("laspy")
    scan = laspy.LasData(laspy.LasHeader(point_format=2, version="1.2"))
    scan.header.scales, scan.header.offsets = [0.001] * 3, np.floor(MAP_XYZ.min(axis=0))
    scan.x, scan.y, scan.z = MAP_XYZ.T
    scan.write(str(tmp_path / "a.las"))
    cloud = read_points(tmp_path / "a.las")
    assert cloud.rgb is None  # the fields are there and were never filled
    expected = np.stack([laspy.read(str(tmp_path / "a.las"))[axis] for axis in "xyz"], axis=1)
    torch.testing.assert_close(cloud.xyz, torch.from_numpy(expected - np.floor(expected.min(axis=0))).float())
    torch.testing.assert_close(cloud.xyz, read_points(write(tmp_path / "a.ply", expected)).xyz, atol=2e-6, rtol=0)
    scan.red = scan.green = scan.blue = np.arange(40) * 1600
    scan.write(str(tmp_path / "b.las"))
    rgb = read_points(tmp_path / "b.las").rgb
    assert rgb is not None
    torch.testing.assert_close(rgb[:, 0], torch.arange(40) * 1600 / 65535)
    whole = (tmp_path / "b.las").read_bytes()
    (tmp_path / "c.las").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(MediaError, match=r"cannot be read: it is cut short"):
        read_points(tmp_path / "c.las")


def test_colours_that_a_scanner_never_filled_are_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "laspy", SimpleNamespace(read=lambda path: Scan(EMPTY)))
    (tmp_path / "a.las").write_bytes(b"LASF")
    assert read_points(tmp_path / "a.las").rgb is None


@pytest.mark.parametrize(
    ("dtype", "full"),
    [
        ("uint8", 255),
        *((kind, full) for kind in ("uint16", "int32", "int64") for full in (255, 65535)),
        *((kind, full) for kind in ("float32", "float64") for full in (1, 255, 65535)),
    ],
)
def test_colours_of_every_number_format_and_scale(dtype: str, full: int) -> None:
    if (dtype == "uint8" and full > 255) or (full == 1 and "int" in dtype):
        pytest.skip("no such colours")
    shares = np.array([[0.0, 0.2, 1.0], [0.4, 0.6, 0.8]])
    colors = (shares * full).round(0 if "int" in dtype else 9).astype(dtype)
    rgb = read_points({"points": XYZ[:2], "colors": colors}).rgb
    assert rgb is not None
    torch.testing.assert_close(rgb, torch.from_numpy(shares).float(), atol=1e-3, rtol=0)
    with_alpha = np.concatenate([colors, np.full((2, 1), full).astype(dtype)], axis=1)
    again = read_points({"xyz": XYZ[:2], "rgb": with_alpha}).rgb
    assert again is not None
    assert torch.equal(again, rgb)


def test_normals_are_no_colours() -> None:
    with pytest.raises(MediaError) as caught:
        read_points(np.concatenate([XYZ, XYZ], axis=1))
    assert str(caught.value).startswith("The array has colours from -0.9")
    assert str(caught.value).endswith("Scale them, or leave them out and pass x y z alone.")


@given(count=st.integers(7, 30))
def test_points_in_every_layout(count: int) -> None:
    xyz = np.random.default_rng(count).normal(size=(count, 3)).astype(np.float32)
    rgb = np.random.default_rng(count).random((count, 3), dtype=np.float32)
    both = np.concatenate([xyz, rgb], axis=1)
    table = np.empty(
        count, [("X", "<f4"), ("Y", "<f4"), ("Z", "<f4"), ("red", "<f4"), ("green", "<f4"), ("blue", "<f4")]
    )
    for number, name in enumerate(table.dtype.names or ()):
        table[name] = both[:, number]
    for source in (xyz, xyz.T, xyz[None], xyz.T[None], np.concatenate([xyz, xyz[:, :1]], axis=1)):
        assert np.array_equal(read_points(source).xyz, xyz)
        assert read_points(source).rgb is None
    for source in (both, both.T, both[None], table, {"points": xyz, "colors": rgb}, {"points": xyz.T, "colors": rgb.T}):
        cloud = read_points(source)
        assert cloud.rgb is not None
        assert np.array_equal(cloud.xyz, xyz)
        assert np.array_equal(cloud.rgb, rgb)


@pytest.mark.parametrize(
    ("text", "num_points", "red"),
    [
        ("1 2 3\n4 5 6\n", 2, None),
        ("1 2 3 0.5\n4 5 6 0.7\n", 2, None),
        ("1 2 3 255 0 0\n4 5 6 51 0 0\n", 2, [1.0, 0.2]),
        ("1 2 3 0 0 1\n4 5 6 0 1 0\n", 2, None),  # of length one: normals
        ("1 2 3 0.5 -0.5 0.7\n4 5 6 0 0.1 0\n", 2, None),
        ("2\n1 2 3 99 255 0 0\n4 5 6 99 51 0 0\n", 2, [1.0, 0.2]),
        ("1,2,3,255,0,0\n4,5,6,51,0,0\n", 2, [1.0, 0.2]),
        ("//X Y Z Intensity R G B\n1 2 3 7 255 0 0\n4 5 6 7 51 0 0\n", 2, [1.0, 0.2]),
        ("# made by hand\n\n1; 2; 3\n", 1, None),
        ("x y z nx ny nz red green blue\n1 2 3 0 0 1 255 0 0\n", 1, [1.0]),
    ],
)
def test_text_tables_of_every_sort(tmp_path: Path, text: str, num_points: int, red: list[float] | None) -> None:
    (tmp_path / "a.xyz").write_text(text)
    cloud = read_points(tmp_path / "a.xyz")
    assert cloud.xyz.tolist() == [[1, 2, 3], [4, 5, 6]][:num_points]
    assert (cloud.rgb is None) == (red is None)
    if cloud.rgb is not None and red is not None:
        torch.testing.assert_close(cloud.rgb[:, 0], torch.tensor(red))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("3\n1 2 3\n", "it is cut short: it announces 3 points and holds 1"),
        ("1 2 3\n1 2\n", "it is damaged (a row holds something else than as many numbers as the first, "),
        ("3\nwater\nO 0 0 0\nH 0 0 1\nH 0 1 0\n", "it is damaged (a row holds something else than as many numbers"),
        ("1 2\n", "it is damaged (its rows have 2 columns without names; known are 3, 4, 6, 7, 9)"),
        ("a b c\n", "it is damaged (a row holds something else than as many numbers"),
        ("# nothing\n", "it is damaged (it holds no row of numbers)"),
        ("<html>", "it holds a web page"),
    ],
)
def test_text_that_is_no_table_of_points_says_why(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "a.xyz").write_text(text)
    with pytest.raises(MediaError) as caught:
        read_points(tmp_path / "a.xyz")
    assert str(caught.value).startswith(f"'{tmp_path / 'a.xyz'}' cannot be read: {said}")


def packed_rgb(rgb: np.ndarray) -> np.ndarray:
    return (rgb[:, 0].astype(np.uint32) << 16 | rgb[:, 1].astype(np.uint32) << 8 | rgb[:, 2].astype(np.uint32)).view(
        "<f4"
    )


def write_pcd(path: Path, how: str) -> Path:
    """Write float places, a field of three numbers per point, and packed colours, as PCL does."""
    header = (
        "# .PCD v0.7 - Point Cloud Data file format\nVERSION 0.7\nFIELDS x y z histogram rgb\nSIZE 4 4 4 2 4\n"
        f"TYPE F F F U F\nCOUNT 1 1 1 3 1\nWIDTH {len(XYZ)}\nHEIGHT 1\nVIEWPOINT 0 0 0 1 0 0 0\nPOINTS {len(XYZ)}\n"
        f"DATA {how}\n"
    )
    xyz, colors = XYZ.astype("<f4"), packed_rgb(RGB)
    columns = [xyz[:, :1], xyz[:, 1:2], xyz[:, 2:], np.full((40, 3), 5, "<u2"), colors[:, None]]
    if how == "ascii":
        body = "".join(
            " ".join(f"{float(number):.9g}" for part in columns for number in part[row]) + "\n" for row in range(40)
        ).encode()
    elif how == "binary":
        body = b"".join(part[row].tobytes() for row in range(40) for part in columns)
    else:
        plain = b"".join(part.tobytes() for part in columns)
        runs = b"".join(bytes([len(plain[i : i + 32]) - 1]) + plain[i : i + 32] for i in range(0, len(plain), 32))
        body = struct.pack("<II", len(runs), len(plain)) + runs
    path.write_bytes(header.encode() + body)
    return path


@pytest.mark.parametrize("how", ["ascii", "binary", "binary_compressed"])
def test_pcd_in_every_form(tmp_path: Path, how: str) -> None:
    cloud = read_points(write_pcd(tmp_path / "a.pcd", how))
    assert np.array_equal(cloud.xyz, XYZ.astype(np.float32))
    assert cloud.rgb is not None
    torch.testing.assert_close(cloud.rgb, torch.from_numpy(RGB).float() / 255)
    whole = (tmp_path / "a.pcd").read_bytes()
    (tmp_path / "b.pcd").write_bytes(whole[:-30])
    with pytest.raises(MediaError, match=r"cannot be read: it is cut short: it announces .* (points|compressed bytes)"):
        read_points(tmp_path / "b.pcd")


def test_pixels_of_a_depth_camera_without_a_place_are_left_out(tmp_path: Path) -> None:
    values = np.array([[1, 2, 3], [np.nan] * 3, [4, 5, 6]], "<f4")
    header = "VERSION 0.7\nFIELDS x y z\nSIZE 4 4 4\nTYPE F F F\nWIDTH 3\nHEIGHT 1\nDATA binary\n"
    (tmp_path / "a.pcd").write_bytes(header.encode() + values.tobytes())
    assert read_points(tmp_path / "a.pcd").xyz.tolist() == [[1, 2, 3], [4, 5, 6]]


@pytest.mark.parametrize(
    ("packed", "size", "plain"),
    [
        (bytes([4]) + b"hello", 5, b"hello"),
        (bytes([0]) + b"a" + bytes([0b11100000, 1, 0]), 11, b"a" * 11),
        (bytes([2]) + b"abc" + bytes([0b01100000, 2]), 8, b"abcabcab"),
        (bytes([3]) + b"abcd" + bytes([0b00100000, 3]) + bytes([0]) + b"!", 8, b"abcdabc!"),
    ],
)
def test_compressed_bytes_come_out_as_they_were(packed: bytes, size: int, plain: bytes) -> None:
    assert unpack_lzf(packed, size) == plain


def test_e57_scans_are_read_where_the_library_is_installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.e57"
    path.write_bytes(b"ASTM-E57")
    places = {f"cartesian{axis}": MAP_XYZ[:, number] for number, axis in enumerate("XYZ")}
    colors = {f"color{name}": RGB[:, number].astype(np.uint8) for number, name in enumerate(("Red", "Green", "Blue"))}

    class Library:
        scan_count = 2

        def __init__(self, path: str) -> None:
            self.path = path

        def get_header(self, number: int) -> SimpleNamespace:
            return SimpleNamespace(point_count=counts[number])

        def read_scan(self, number: int, **settings: bool) -> dict[str, np.ndarray]:
            assert settings == {"colors": True, "ignore_missing_fields": True}
            return {**places, **colors}

    counts = [len(MAP_XYZ)] * 2
    monkeypatch.setitem(sys.modules, "pye57", SimpleNamespace(E57=Library))
    cloud = read_points(path)
    torch.testing.assert_close(cloud.xyz, torch.from_numpy(np.concatenate([NEAR, NEAR])).float(), atol=1e-6, rtol=0)
    assert cloud.rgb is not None
    torch.testing.assert_close(cloud.rgb[:40], torch.from_numpy(RGB).float() / 255)
    counts[1] = 10**12
    with pytest.raises(MediaError, match=r"holds 1,000,000,000,040 points with colours: 36 TB once decoded"):
        read_points(path)
    monkeypatch.setitem(sys.modules, "pye57", None)
    with pytest.raises(MediaError) as caught:
        read_points(path)
    assert str(caught.value) == (
        f"'{path}' is an E57 scan, and the library that reads those is not installed. Accepted without it: .ply, .npz, "
        '.npy, .xyz, .pts, .pcd. Run: pip install "crema-3d[e57]"'
    )


def test_a_scan_in_every_layout() -> None:
    random = np.random.default_rng(0)
    scan = {
        "depth": random.uniform(1, 2, (1, 4, 6)), "intrinsics": np.diag([5.0, 5.0, 1.0]), "poses": np.eye(4)[None],
        "rgb": random.integers(0, 256, (1, 4, 6, 3), dtype=np.uint8),
    }  # fmt: skip
    expected = read_points(scan, voxel_m=1e-4)
    single = {"depth": scan["depth"][0], "poses": scan["poses"][0], "rgb": scan["rgb"][0]}
    for other in (
        {"depth": scan["depth"][..., None]},
        {"depth": scan["depth"][:, None]},
        {"rgb": scan["rgb"].transpose(0, 3, 1, 2)},
        single,
    ):
        cloud = read_points({**scan, **other}, voxel_m=1e-4)
        assert torch.equal(cloud.xyz, expected.xyz)
        assert cloud.rgb is not None
        assert expected.rgb is not None
        assert torch.equal(cloud.rgb, expected.rgb)


def test_a_scan_in_map_coordinates_keeps_its_millimetres() -> None:
    poses = np.eye(4)[None].repeat(2, axis=0)
    poses[0, :3, 3], poses[1, :3, 3] = [500_000.25, 5_400_000.125, 300.0], [500_001.5, 5_400_000.375, 300.0]
    scan = {"depth": np.full((2, 2, 2), 2.0), "intrinsics": np.eye(3), "poses": poses}
    xyz = read_points(scan, voxel_m=1e-4).xyz
    wide = read_points({**scan, "depth": scan["depth"][..., None]}, voxel_m=1e-4).xyz
    poses[:, :3, 3] -= [500_000, 5_400_000, 300]
    near = read_points({**scan, "poses": poses}, voxel_m=1e-4).xyz
    torch.testing.assert_close(xyz, near)
    assert torch.equal(wide, xyz)


@pytest.mark.parametrize("how", ["ascii", "binary", "binary_compressed"])
def test_a_pcd_file_of_points_without_numbers_or_of_too_many_is_refused(tmp_path: Path, how: str) -> None:
    def write(count: int, each: int) -> Path:
        head = f"FIELDS x y z\nSIZE 4 4 4\nTYPE F F F\nCOUNT {each} {each} {each}\nPOINTS {count}\nDATA {how}\n"
        (tmp_path / "a.pcd").write_bytes(head.encode() + bytes(36))
        return tmp_path / "a.pcd"

    with pytest.raises(MediaError, match="its header lacks something"):
        read_points(write(10**12, 0))
    text = "holds 1,000,000,000,000 points of 3 numbers: 24 TB once decoded"
    if how == "binary":  # its rows are as long as they are, so this is known to be no large file but half of one
        text = "it is cut short: it announces 1,000,000,000,000 points of 12 bytes and holds 36 bytes"
    with pytest.raises(MediaError, match=text):
        read_points(write(10**12, 1))
