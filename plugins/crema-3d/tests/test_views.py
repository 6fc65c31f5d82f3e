"""RGB-D views one by one: patches with their places, a step per view."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from crema_3d.encoding import fourier
from crema_3d.modality import PointCloudModality
from crema_3d.plugin import SPEC
from crema_3d.views import read_view_tokens
from crema_core.errors import MediaError
from crema_core.modality import BuildContext


def scan(num_views: int = 3) -> dict[str, Any]:
    """Cameras one metre apart look along z at a wall 2 m away; 4 x 6 pixels, 2 x 3 patches that hold their number."""
    poses = np.tile(np.eye(4, dtype=np.float32), (num_views, 1, 1))
    poses[:, 0, 3] = np.arange(num_views)
    numbers = np.arange(num_views * 6, dtype=np.float32).reshape(num_views, 2, 3, 1)
    return {
        "depth": np.full((num_views, 4, 6), 2, np.float32),
        "intrinsics": np.array([[2, 0, 2.5], [0, 2, 1.5], [0, 0, 1]], np.float32),
        "poses": poses,
        "features": np.repeat(numbers, 4, axis=-1),
    }


def test_every_patch_has_the_place_of_its_pixels() -> None:
    found = read_view_tokens(scan(), feature_dim=4, num_views=32)
    assert bool(found.known.all())
    column, row = torch.tensor([-2.0, 0, 2]), torch.tensor([-1.0, 1])  # patch centres in pixels from the axis
    expected = torch.stack([torch.stack([column.repeat(2) + view, row.repeat_interleave(3), torch.full((6,), 2.0)], -1)
                            for view in range(3)])  # fmt: skip
    torch.testing.assert_close(found.places, expected)
    assert found.features[:, :, 0].flatten().tolist() == list(range(18))


def test_unknown_depth_leaves_the_feature_and_says_so() -> None:
    source = scan()
    source["depth"][1, :2, :2] = 0  # the first patch of the second view
    options = SPEC.parse_options({"encoder": "views", "feature_dim": 4, "extent_m": 2.0})
    modality = PointCloudModality(options, BuildContext())
    features = modality.encode(modality.collate([modality.prepare(source)]))
    assert features.values.shape == (1, 3, 6, modality.feature_dim) == (1, 3, 6, 44)
    assert bool(features.mask.all())
    token = features.values[0, 1, 0]
    assert token[:4].tolist() == [6.0] * 4
    assert token[4:].tolist() == [0.0] * 40
    known = features.values[0, 1, 1]
    torch.testing.assert_close(known[4:43], fourier(torch.tensor([1.0, -1.0, 2.0]) / 2))
    assert float(known[43]) == 1


def test_views_are_chosen_evenly_and_shorter_scans_are_padded() -> None:
    modality = PointCloudModality(
        SPEC.parse_options({"encoder": "views", "feature_dim": 4, "num_views": 4}), BuildContext()
    )
    batch = modality.collate([modality.prepare(scan(8)), modality.prepare(scan(2))])
    features = modality.encode(batch)
    assert features.mask.all(-1).tolist() == [[True] * 4, [True, True, False, False]]
    assert (features.values[0, :, 0, 0] / 6).tolist() == [1, 3, 5, 7]
    assert float(features.values[1, 2:].abs().max()) == 0


def test_what_is_no_scan_with_features_is_refused(tmp_path: Path) -> None:
    bare = {key: value for key, value in scan().items() if key != "features"}
    np.savez(tmp_path / "bare.npz", **bare)
    layout = "depth (V, H, W), intrinsics, poses (V, 4, 4) and features (V, h, w, D)"
    with pytest.raises(MediaError) as caught:
        read_view_tokens(tmp_path / "bare.npz", feature_dim=4, num_views=4)
    assert str(caught.value) == (
        f"'{tmp_path / 'bare.npz'}' holds depth, intrinsics, poses. encoder='views' reads {layout}. Save them with "
        "numpy.savez, or choose another encoder."
    )
    with pytest.raises(MediaError) as caught:
        read_view_tokens(scan(), feature_dim=5, num_views=4)
    assert str(caught.value) == (
        "The dict holds features (3, 2, 3, 4). The option feature_dim says (V, h, w, 5). Set feature_dim=4."
    )
    with pytest.raises(MediaError) as caught:
        read_view_tokens(7, feature_dim=4, num_views=4)
    assert str(caught.value) == (
        f"A scan of RGB-D views came as int. Accepted: a path, or a dict with {layout}. Pass one of these."
    )
