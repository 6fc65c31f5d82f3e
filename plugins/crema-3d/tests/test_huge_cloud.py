"""A cloud of five million points: memory stays a small multiple of the file's."""

from __future__ import annotations

import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import torch

from crema_3d.files import read_points
from crema_3d.modality import PointCloudModality
from crema_3d.plugin import SPEC
from crema_core.modality import BuildContext

NUM_POINTS = 5_000_000
BYTES = 15 * NUM_POINTS
ROW = np.dtype([("xyz", "<f4", 3), ("rgb", "u1", 3)])


@pytest.fixture(scope="module")
def huge(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A flat square of 10 m, redder to the right."""
    rows = np.zeros(NUM_POINTS, dtype=ROW)
    number = np.arange(NUM_POINTS)
    rows["xyz"][:, 0] = (number % 2500) / 250
    rows["xyz"][:, 2] = (number // 2500) / 200
    rows["rgb"][:, 0] = number % 2500 // 10
    names = [f"property float {axis}" for axis in "xyz"] + [
        f"property uchar {name}" for name in ("red", "green", "blue")
    ]
    header = ["ply", "format binary_little_endian 1.0", f"element vertex {NUM_POINTS}", *names, "end_header", ""]
    path = tmp_path_factory.mktemp("huge") / "huge.ply"
    path.write_bytes("\n".join(header).encode() + rows.tobytes())
    return path


@pytest.mark.slow
def test_five_million_points_are_read_and_sampled_in_bounded_memory(huge: Path) -> None:
    modality = PointCloudModality(SPEC.parse_options({"num_points": 1000}), BuildContext())
    tracemalloc.start()
    sample = modality.prepare(huge)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    points = sample.tensors["points"][0]
    assert points.shape == (1000, 7)
    # Red grows with x: position and colour are of the same points.
    torch.testing.assert_close((points[:, 3] + 1) / 2 * 255, (points[:, 0] * 4 * 25).floor(), atol=1.01, rtol=0)
    assert peak < 8 * BYTES


def test_all_points_are_there(huge: Path) -> None:
    cloud = read_points(huge)
    assert cloud.xyz.shape == (NUM_POINTS, 3)
    assert cloud.rgb is not None
    assert float(cloud.xyz[-1, 2]) == pytest.approx(9.995)
