"""What the pictures of `crema show` say in words: units, ranges, what colours mean, and at which proportions."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from crema_core.data import sheet as sheets
from crema_core.errors import MediaError
from crema_core.modality import BuildContext, Modality
from crema_core.plugins import registry
from tests.support.packages import needs_names

DRAWN_BY = {
    "audio": "crema_audio.drawing",
    "depth": "crema_geometry.modality",
    "flow": "crema_geometry.modality",
    "normals": "crema_geometry.modality",
    "pointcloud": "crema_3d.drawing",
    "thermal": "crema_thermal.modality",
    "touch": "crema_touch.modality",
}
KELVIN = np.array([[273.15, 293.15], [303.15, 333.15]], np.float32)
METRES = np.array([[0.0, 1.0], [2.5, 4.0]], np.float32)
CORNERS = np.array([[0, 0, 0], [2, 1, 1], [1, 1, 1]], np.float32)
STORED = {"features": torch.randn(3, 8), "coordinates": torch.tensor([[0, 0, 0], [9, 0, 0], [5, 3, 1]])}
SCAN = {
    "depth": torch.tensor([[[1.0, 0.0, 1.0]]]),
    "intrinsics": torch.tensor([[2.0, 0, 1], [0, 2.0, 0], [0, 0, 1]]),
    "poses": torch.eye(4)[None],
    "features": torch.randn(1, 1, 3, 8),
}
CASES: list[tuple[str, Any, dict[str, Any], list[str]]] = [
    ("audio", np.zeros(16_000, np.float32), {}, ["blue: what is listened to, 1 window"]),
    ("audio", np.zeros(61 * 16_000, np.float32), {},
     ["blue: what is listened to, 2 windows, the rest of the sound is not drawn"]),
    ("depth", METRES, {}, ["measured 1.00 to 4.00 m; black: unknown, 25.0 %"]),
    ("depth", np.zeros((2, 2), np.float32), {}, ["nothing is known; black: unknown, 100.0 %"]),
    ("flow", np.zeros((2, 2, 2), np.float32), {},
     ["hue: direction, as from the middle of the wheel outwards; full colour: 8 pixels per frame; white: rest"]),
    ("normals", np.ones((2, 2, 3), np.float32), {}, ["right red, up green, to the viewer blue; grey: unknown"]),
    ("pointcloud", CORNERS, {},
     ["3 points; x 0.00..2.00, y 0.00..1.00, z 0.00..1.00 m; every view is 2.00 m wide"]),
    ("pointcloud", {"points": CORNERS, "colors": CORNERS / 2}, {"num_points": 2},
     ["2 of 3 points; x 0.00..2.00, y 0.00..1.00, z 0.00..1.00 m; every view is 2.00 m wide",
      "colours: as in the source"]),
    ("pointcloud", STORED, {"encoder": "features", "feature_dim": 8},
     ["3 points; x 0.00..9.00, y 0.00..3.00, z 0.00..1.00 voxels; every view is 9.00 voxels wide",
      "colours: alike features look alike (their three principal directions)"]),
    ("pointcloud", SCAN, {"encoder": "views", "feature_dim": 8},
     ["2 of 3 points; x -0.50..0.50, y 0.00..0.00, z 1.00..1.00 m; every view is 1.00 m wide",
      "colours: alike features look alike (their three principal directions)"]),
    ("thermal", KELVIN, {}, ["measured 0.0 to 60.0 °C, 50 % outside the window (fixed)"]),
    ("thermal", np.zeros((2, 2), np.uint8), {},
     ["finished heatmap, kept as it is: its colours' temperatures are not known"]),
    ("touch", np.zeros((10, 20, 3), np.uint8), {}, ["as recorded; sensor 20 x 10, encoder 16 x 16 pixels"]),
]  # fmt: skip


def modality_of(name: str, options: dict[str, Any]) -> Modality:
    spec = registry.resolve(name).spec
    modality: Modality = spec.load_factory()(spec.parse_options(options), BuildContext(image_size=16))
    return modality


@pytest.mark.parametrize(
    ("name", "source", "options", "told"),
    [pytest.param(*case, id=f"{case[0]}-{case[3][0]}", marks=needs_names("modality", case[0])) for case in CASES],
)
def test_a_picture_says_what_it_shows(
    name: str, source: Any, options: dict[str, Any], told: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []

    def line(text: str) -> Tensor:
        said.append(text)
        return sheets.line(text)

    monkeypatch.setattr(f"{DRAWN_BY[name]}.line", line)
    modality_of(name, options).show(source)
    assert said == told


@needs_names("modality", "touch")
def test_touch_is_drawn_at_the_proportions_of_the_sensor(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[torch.Size] = []

    def sheet(frames: Tensor, captions: list[str]) -> Tensor:
        drawn.append(frames.shape)
        return sheets.sheet(frames, captions)

    monkeypatch.setattr("crema_touch.modality.sheet", sheet)
    modality_of("touch", {}).show(np.zeros((10, 20, 3), np.uint8))
    assert drawn == [(1, 3, 16, 32)]


@needs_names("modality", "pointcloud")
def test_views_without_any_depth_have_no_picture() -> None:
    blank = {**SCAN, "depth": torch.zeros(1, 1, 3)}
    with pytest.raises(MediaError) as caught:
        modality_of("pointcloud", {"encoder": "views", "feature_dim": 8}).show(blank)
    assert str(caught.value) == (
        "The scan has no patch with a known depth. Only patches with a place in space can be drawn. Check the depth "
        "maps."
    )
