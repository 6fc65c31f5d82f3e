"""The point-cloud modality."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch

from crema_3d.encoding import coordinate_table, encode_coordinates, fourier
from crema_3d.files import read_points
from crema_3d.modality import PointCloudModality, choose_points
from crema_3d.plugin import FOURIER_DIM, NUM_OCTAVES, SPEC
from crema_core.errors import MediaError
from crema_core.modality import BuildContext, Features
from tests.support.numeric import assert_close_to_scale

ACCEPTED = "A point cloud is read from .ply, .npz, .npy, .las, .laz, .xyz, .pts, .pcd, .e57."
XYZ = np.array([[1.0, 2.0, 3.0], [-1.0, 0.5, -4.0], [0.0, 0.0, 2.0]], np.float32)
RGB = np.array([[255, 0, 0], [0, 255, 0], [0, 0, 51]], np.uint8)


def build(**options: object) -> PointCloudModality:
    return PointCloudModality(SPEC.parse_options(dict(options)), BuildContext())


def encoded(source: object, **options: object) -> Features:
    modality = build(**options)
    return modality.encode(modality.collate([modality.prepare(source)]))


def refusal(source: object, **options: object) -> str:
    with pytest.raises(MediaError) as caught:
        build(**options).prepare(source)
    return str(caught.value)


def write_ply(path: Path, *, text: bool, colors: bool = True, faces: bool = False) -> Path:
    kinds = [("xyz", "<f4", 3)] + ([("rgb", "u1", 3)] if colors else [])
    rows = np.empty(len(XYZ), dtype=kinds)
    rows["xyz"] = XYZ
    if colors:
        rows["rgb"] = RGB
    header = ["ply", f"format {'ascii' if text else 'binary_little_endian'} 1.0", f"element vertex {len(XYZ)}"]
    header += [f"property float {axis}" for axis in "xyz"]
    header += [f"property uchar {color}" for color in ("red", "green", "blue")] if colors else []
    header += ["element face 1", "property list uchar int vertex_indices"] if faces else []
    body = rows.tobytes() + (b"\x03" + np.arange(3, dtype="<i4").tobytes() if faces else b"")
    if text:
        lines = [" ".join(map(str, [*row["xyz"], *(row["rgb"] if colors else [])])) for row in rows]
        body = "\n".join([*lines, *(["3 0 1 2"] if faces else []), ""]).encode()
    path.write_bytes("\n".join([*header, "end_header", ""]).encode() + body)
    return path


@pytest.mark.parametrize("text", [True, False])
@pytest.mark.parametrize("faces", [True, False])
def test_ply_is_read_with_colours(tmp_path: Path, text: bool, faces: bool) -> None:
    points = read_points(write_ply(tmp_path / "a.ply", text=text, faces=faces))
    assert np.allclose(points.xyz, XYZ)
    assert points.rgb is not None
    assert np.allclose(points.rgb, RGB / 255)


@pytest.mark.parametrize("text", [True, False])
@pytest.mark.parametrize("faces", [True, False])
def test_ply_without_colours_is_read(tmp_path: Path, text: bool, faces: bool) -> None:
    points = read_points(write_ply(tmp_path / "a.ply", text=text, colors=False, faces=faces))
    assert np.allclose(points.xyz, XYZ)
    assert points.rgb is None


def test_arrays_give_the_same_points(tmp_path: Path) -> None:
    both = np.concatenate([XYZ, RGB / 255], axis=1)
    np.savez(tmp_path / "a.npz", points=XYZ, colors=RGB)
    np.save(tmp_path / "a.npy", both)
    expected = encoded({"points": XYZ, "colors": RGB}).values
    sources = (
        tmp_path / "a.npz",
        tmp_path / "a.npy",
        both,
        torch.from_numpy(both),
        write_ply(tmp_path / "a.ply", text=False),
    )
    for source in sources:
        torch.testing.assert_close(encoded(source).values, expected)


def test_a_token_is_the_place_and_colour_of_a_point() -> None:
    values = encoded({"points": XYZ, "colors": RGB}, extent_m=4.0).values
    assert values.shape == (1, 1, 3, FOURIER_DIM)
    torch.testing.assert_close(values[0, 0, :, :3], torch.from_numpy(XYZ) / 4)
    torch.testing.assert_close(values[0, 0, :, -4:-1], 2 * torch.from_numpy(RGB).float() / 255 - 1)
    assert values[0, 0, :, -1].tolist() == [1, 1, 1]
    assert encoded(XYZ).values[0, 0, :, -4:].abs().max() == 0


def test_behind_stays_behind_unless_centred() -> None:
    behind = XYZ - np.array([0, 0, 10], np.float32)
    assert (encoded(behind).values[0, 0, :, 2] < 0).all()
    centred = encoded(behind, center=True).values
    # Ten metres away places are rounded as numbers of ten, which the shortest wave magnifies.
    scale = 10 * math.pi / 2 * 2 ** (NUM_OCTAVES - 1)
    assert_close_to_scale(centred, encoded(XYZ, center=True).values, scale=scale, ulps=4)


def test_opposite_places_have_opposite_sines() -> None:
    places = torch.rand(5, 3)
    front, back = fourier(places), fourier(-places)
    torch.testing.assert_close(front[:, :21], -back[:, :21])
    torch.testing.assert_close(front[:, 21:], back[:, 21:])


def test_a_large_cloud_is_sampled_always_alike() -> None:
    cloud = np.random.default_rng(0).normal(size=(500, 3))
    first, second = (build(num_points=64).prepare(cloud).tensors["points"] for _ in range(2))
    assert first.shape == (1, 64, 7)
    assert torch.equal(first, second)
    kept = choose_points(500, 64)
    assert kept.tolist() == sorted(set(kept.tolist()))
    assert kept[-1] > 300  # a random subset, not the first 64 as the released code takes


def test_padding_of_small_clouds_is_masked() -> None:
    modality = build()
    features = modality.encode(modality.collate([modality.prepare(XYZ), modality.prepare(np.ones((7, 3)))]))
    assert features.mask.shape == (2, 1, 7)
    assert features.mask.sum(dim=-1).flatten().tolist() == [3, 7]
    assert features.values[0, 0, 3:].abs().max() == 0


def test_stored_features_get_their_coordinates_added(tmp_path: Path) -> None:
    features, coordinates = torch.randn(5, 34), torch.randint(0, 256, (5, 3))
    np.savez(tmp_path / "a.npz", features=features.numpy(), coordinates=coordinates.numpy())
    values = encoded(tmp_path / "a.npz", encoder="features", feature_dim=34).values
    torch.testing.assert_close(values[0, 0], features + 0.01 * encode_coordinates(coordinates, 34))
    plain = encoded(tmp_path / "a.npz", encoder="features", feature_dim=34, coordinate_scale=0.0).values
    torch.testing.assert_close(plain[0, 0], features)


def test_the_coordinate_table_is_interleaved_and_cut_to_an_odd_width() -> None:
    """As the released code gives it: width 11 from an even 12, frequencies 10000^(-2k/12)."""
    table = coordinate_table(11)
    frequencies = 10000 ** (-torch.arange(0, 12, 2) / 12)
    assert table.shape == (256, 11)
    torch.testing.assert_close(table[7, 0::2], (7 * frequencies).sin())
    torch.testing.assert_close(table[7, 1::2], (7 * frequencies).cos()[:5])


def test_channels_left_over_by_a_third_stay_zero() -> None:
    assert encode_coordinates(torch.tensor([[3, 4, 5]]), 34).shape == (1, 34)
    assert encode_coordinates(torch.tensor([[3, 4, 5]]), 34)[0, 33] == 0


def test_the_width_follows_the_encoder() -> None:
    assert build().feature_dim == FOURIER_DIM == 43
    assert build(encoder="features", feature_dim=34).feature_dim == 34


@pytest.mark.parametrize(("coordinates", "low", "high"), [([[0, 0, 256]], "0", "256"), ([[-1, 0, 3]], "-1", "3")])
def test_coordinates_beyond_the_grid_are_refused(coordinates: list[list[int]], low: str, high: str) -> None:
    source = {"features": torch.zeros(1, 4), "coordinates": torch.tensor(coordinates)}
    assert refusal(source, encoder="features", feature_dim=4) == (
        f"The dict has coordinates from {low} to {high}. They are voxel numbers in 0..255 per axis, as 3D-LLM stores "
        "them. Scale the scene to that grid first."
    )


def test_features_of_another_width_are_refused() -> None:
    source = {"features": torch.zeros(2, 8), "coordinates": torch.zeros(2, 3)}
    assert refusal(source, encoder="features", feature_dim=4) == (
        "The dict holds features (2, 8) and coordinates (2, 3). Accepted are (N, 4) and (N, 3). Set the option "
        "feature_dim to the stored width, or change the layout."
    )


def test_features_without_coordinates_are_refused() -> None:
    assert refusal({"features": torch.zeros(2, 4)}, encoder="features", feature_dim=4) == (
        "The dict holds features. 3D features come as features (N, 4) and coordinates (N, 3). Save both with "
        "numpy.savez(path, features=..., coordinates=...)."
    )


@pytest.mark.parametrize("shape", [(0, 3), (4, 2), (4,), (2, 4, 3)])
def test_other_layouts_are_refused(shape: tuple[int, ...]) -> None:
    assert refusal(np.zeros(shape)) == (
        f"The array has points {shape}. A point cloud has at least one point, finite x y z (N, 3) and as many colours. "
        "Remove broken points, or change the layout."
    )


def test_points_that_are_nowhere_are_refused() -> None:
    assert refusal(np.full((2, 3), np.nan)) == (
        "The array has points (2, 3). A point cloud has at least one point, finite x y z (N, 3) and as many colours. "
        "Remove broken points, or change the layout."
    )


def test_a_file_with_other_arrays_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    np.savez(path, a=XYZ, b=XYZ)
    assert refusal(path) == (
        f"'{path}' holds a, b. A point cloud has points (N, 3) or (N, 6) and, optionally, colors (N, 3). Save it with "
        "numpy.savez(path, points=..., colors=...)."
    )


@pytest.mark.parametrize(
    ("cut", "cause"),
    [
        (20, "its header has no end"),
        (150, "its header has no end"),
        (-20, "it announces 3 rows of at least 15 bytes of 'vertex' and holds 25 bytes"),
    ],
)
def test_a_ply_cut_short_is_named(tmp_path: Path, cut: int, cause: str) -> None:
    path = write_ply(tmp_path / "a.ply", text=False)
    path.write_bytes(path.read_bytes()[:cut])
    assert refusal(path) == (
        f"'{path}' cannot be read: it is cut short: {cause}. {ACCEPTED} Write or download the file again."
    )


def test_an_absent_file_is_named(tmp_path: Path) -> None:
    path = tmp_path / "none.ply"
    assert refusal(path) == f"'{path}' does not exist. {ACCEPTED} Check the path."


def test_an_empty_file_is_named(tmp_path: Path) -> None:
    path = tmp_path / "a.ply"
    path.touch()
    assert refusal(path) == f"'{path}' is empty (0 bytes). {ACCEPTED} Write or download the file again."


def test_another_type_is_named(tmp_path: Path) -> None:
    path = tmp_path / "a.jpg"
    path.write_bytes(b"x")
    assert refusal(path) == f"'{path}' ends in '.jpg'. {ACCEPTED} Convert the file, or pass its values as an array."
