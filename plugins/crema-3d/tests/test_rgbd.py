"""Scans: RGB-D views, 3D-LLM files, laser scans."""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from crema_3d.files import read_features, read_points
from crema_3d.modality import PointCloudModality
from crema_3d.plugin import SPEC
from crema_3d.rgbd import unproject, voxel_mean
from crema_core.errors import MediaError
from crema_core.modality import BuildContext


def turned(degrees: float, place: tuple[float, float, float]) -> np.ndarray:
    """A camera turned about the world's vertical, y."""
    angle = np.radians(degrees)
    pose = np.eye(4, dtype=np.float32)
    pose[:3, :3] = [[np.cos(angle), 0, np.sin(angle)], [0, 1, 0], [-np.sin(angle), 0, np.cos(angle)]]
    pose[:3, 3] = place
    return pose


def room(num_views: int = 8, height: int = 12, width: int = 16) -> dict[str, Any]:
    """Views from inside a box of 4 x 3 x 4 m: depths are known exactly, walls coloured by their axis."""
    half = np.array([2.0, 1.5, 2.0])
    intrinsics = np.array([[10.0, 0, 7.5], [0, 10.0, 5.5], [0, 0, 1]], np.float32)
    column, row = np.meshgrid(np.arange(width), np.arange(height))
    rays = np.stack([(column - 7.5) / 10, (row - 5.5) / 10, np.ones_like(column, float)], axis=-1)
    depth, poses, rgb = [], [], []
    for number in range(num_views):
        pose = turned(360 * number / num_views, (0.3, 0.1, -0.2))
        world = rays @ pose[:3, :3].T
        with np.errstate(divide="ignore"):
            distance = np.where(world > 0, half - pose[:3, 3], -half - pose[:3, 3]) / world
        nearest = distance.argmin(axis=-1)
        depth.append(distance.min(axis=-1))
        poses.append(pose)
        rgb.append((np.eye(3)[nearest] * 255).astype(np.uint8))
    return {
        "depth": np.stack(depth).astype(np.float32), "intrinsics": intrinsics, "poses": np.stack(poses),
        "rgb": np.stack(rgb),
    }  # fmt: skip


def test_pixels_land_on_the_walls_they_show() -> None:
    scan = {key: torch.from_numpy(value) for key, value in room().items()}
    points, known = unproject(scan["depth"], scan["intrinsics"].expand(8, -1, -1), scan["poses"])
    assert bool(known.all())
    distance = (points.abs() - torch.tensor([2.0, 1.5, 2.0])).abs().amin(dim=-1)
    assert float(distance.max()) < 1e-5


def test_a_scan_becomes_a_coloured_cloud(tmp_path: Path) -> None:
    np.savez(tmp_path / "room.npz", **room())
    cloud = read_points(tmp_path / "room.npz", voxel_m=0.05)
    assert 100 < len(cloud.xyz) <= 8 * 12 * 16
    assert cloud.rgb is not None
    wall = (cloud.xyz.abs() - torch.tensor([2.0, 1.5, 2.0])).abs().argmin(dim=-1)
    clear = cloud.rgb.max(dim=-1).values > 0.99
    assert torch.equal(cloud.rgb.argmax(dim=-1)[clear], wall[clear])


def test_whole_number_depth_is_counts() -> None:
    scan = room(2)
    exact = read_points(scan, voxel_m=0.001).xyz
    counts = read_points({**scan, "depth": (scan["depth"] * 5000).round().astype(np.uint16)}, counts_per_metre=5000)
    np.testing.assert_allclose(counts.xyz.amax(0), exact.amax(0), atol=0.02)


def test_unknown_depth_and_lost_poses_are_left_out() -> None:
    scan = room(3)
    scan["depth"][0, :6] = 0
    scan["poses"][1] = np.inf
    whole = read_points(scan, voxel_m=1e-4)
    assert len(whole.xyz) <= (6 + 12) * 16


def test_what_falls_into_one_voxel_is_averaged() -> None:
    points = torch.tensor([[0.1, 0.1, 0.1], [0.3, 0.1, 0.1], [-0.1, 0.1, 0.1]])
    places, values = voxel_mean(points, torch.tensor([[1.0], [3.0], [7.0]]), size_m=0.5)
    torch.testing.assert_close(places, torch.tensor([[-0.1, 0.1, 0.1], [0.2, 0.1, 0.1]]))
    torch.testing.assert_close(values, torch.tensor([[7.0], [2.0]]))


def test_patch_features_are_fused_where_their_pixels_lie() -> None:
    """Every patch carries the mean place of its pixels as its feature; fused, features and voxels agree."""
    scan = room(8, 12, 16)
    tensors = {key: torch.from_numpy(value) for key, value in scan.items()}
    points, _ = unproject(tensors["depth"], tensors["intrinsics"].expand(8, -1, -1), tensors["poses"])
    patches = torch.nn.functional.avg_pool2d(points.permute(0, 3, 1, 2), 4).permute(0, 2, 3, 1)
    stored = read_features({**scan, "features": patches.numpy()}, feature_dim=3, voxel_m=0.1)
    assert stored.coordinates.dtype == torch.int64
    assert int(stored.coordinates.min()) == 0
    assert int(stored.coordinates.max()) == 255
    low = stored.features.amin(dim=0)
    extent = (stored.features.amax(dim=0) - low).max()
    torch.testing.assert_close(
        ((stored.features - low) / extent * 255).round(), stored.coordinates.float(), atol=1, rtol=0
    )


def test_the_modality_takes_a_scan_both_ways(tmp_path: Path) -> None:
    scan = {**room(4), "features": np.ones((4, 3, 4, 6), np.float32)}
    np.savez(tmp_path / "room.npz", **scan)
    for options in ({"num_points": 64}, {"encoder": "features", "feature_dim": 6, "num_points": 16}):
        modality = PointCloudModality(SPEC.parse_options(options), BuildContext())
        features = modality.encode(modality.collate([modality.prepare(tmp_path / "room.npz")]))
        assert features.values.shape == (1, 1, options["num_points"], modality.feature_dim)


def test_shapes_that_are_no_scan_are_refused() -> None:
    with pytest.raises(MediaError) as caught:
        read_points({**room(2), "poses": np.zeros((3, 4, 4))})
    assert str(caught.value) == (
        "The dict holds depth (2, 12, 16), intrinsics (3, 3), poses (3, 4, 4), rgb (2, 12, 16, 3). A scan is depth (V, "
        "H, W), intrinsics (3, 3) or (V, 3, 3), poses (V, 4, 4) and, optionally, rgb (V, H, W, 3) uint8 and features "
        "(V, h, w, C). Change the layout."
    )


def test_a_scan_without_depth_or_poses_is_refused() -> None:
    scan = room(2)
    with pytest.raises(MediaError) as caught:
        read_points({**scan, "depth": 0 * scan["depth"]})
    assert str(caught.value) == (
        "The scan has no pixel with a known depth. Depth is metres, or whole-number counts, above 0. Check the depth "
        "maps."
    )
    with pytest.raises(MediaError) as caught:
        read_points({**scan, "poses": np.full((2, 4, 4), np.nan)})
    assert str(caught.value) == (
        "The dict has no view with a finite pose. Views whose tracking was lost are left out, and none remains. Check "
        "the poses."
    )


def test_files_of_3d_llm_are_read(tmp_path: Path) -> None:
    features, voxels = torch.randn(9, 5), np.arange(27).reshape(9, 3)
    torch.save(features, tmp_path / "scene0480_00.pt")
    np.save(tmp_path / "scene0480_00.npy", voxels)
    stored = read_features(tmp_path / "scene0480_00.pt", feature_dim=5)
    assert torch.equal(stored.features, features)
    assert stored.coordinates.tolist() == voxels.tolist()


def test_3d_llm_vectors_alone_and_pickles_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.pt"
    torch.save(torch.randn(2, 5), path)
    with pytest.raises(MediaError) as caught:
        read_features(path, feature_dim=5)
    assert str(caught.value) == (
        f"'{path}' has no 'a.npy' beside it. 3D-LLM stores vectors in .pt and their voxel numbers in an .npy of the "
        "same name. Put both into one folder."
    )
    np.save(tmp_path / "a.npy", np.zeros((2, 3), int))
    torch.save({"features": Path("x")}, path)
    with pytest.raises(MediaError) as caught:
        read_features(path, feature_dim=5)
    assert str(caught.value) == (
        f"'{path}' cannot be read: it holds pickled objects, which are refused because they can run code (torch). A "
        "file of 3D features is read from .npz, .pt. Save the tensor alone, with torch.save(features, path)."
    )


class Scan(dict):  # type: ignore[type-arg]
    """What laspy's reader gives, as far as it is used."""

    point_format = SimpleNamespace(dimension_names=["X", "red", "green", "blue"])
    x, y, z = np.array([4_500_000.25, 4_500_001.5]), np.array([100.0, 101.0]), np.array([7.0, 8.0])


def test_a_laser_scan_is_moved_near_the_origin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    colors = {name: np.array([0, 65535], np.uint16) for name in ("red", "green", "blue")}
    monkeypatch.setitem(sys.modules, "laspy", SimpleNamespace(read=lambda path: Scan(colors)))
    (tmp_path / "a.laz").write_bytes(b"x")
    cloud = read_points(tmp_path / "a.laz")
    torch.testing.assert_close(cloud.xyz, torch.tensor([[0.25, 0.0, 0.0], [1.5, 1.0, 1.0]]))
    assert cloud.rgb is not None
    assert cloud.rgb.tolist() == [[0.0] * 3, [1.0] * 3]


def test_a_laser_scan_without_the_library_or_damaged_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.las"
    path.write_bytes(b"x")
    monkeypatch.setitem(sys.modules, "laspy", None)
    with pytest.raises(MediaError) as caught:
        read_points(path)
    assert str(caught.value) == (
        f"'{path}' is a laser scan, and the library that reads those is not installed. Accepted without it: .ply, "
        '.npz, .npy, .xyz, .pts, .pcd. Run: pip install "crema-3d[las]"'
    )
    monkeypatch.setitem(sys.modules, "laspy", SimpleNamespace(read=lambda path: 1 / 0))
    with pytest.raises(MediaError) as caught:
        read_points(path)
    assert str(caught.value) == (
        f"'{path}' cannot be read: it holds text (laspy). A laser scan is read from .las, .laz. Give the file the "
        "ending of what it holds, or convert it."
    )
