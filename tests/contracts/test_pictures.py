"""What the pictures of `crema show` say in words: units, ranges, what colours mean, and at which proportions."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from crema_core.data import sheet as sheets
from crema_core.data.doubts import collect_doubts
from crema_core.data.images import resize
from crema_core.errors import MediaError
from crema_core.modality import BuildContext, Modality
from crema_core.plugins import registry
from tests.support.official_datasets import write_clip
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
FLAT_METRES = np.array([[2.0, 2.03]], np.float32)
FIELD = np.full((3, 4, 2), np.nan, np.float32)
FIELD[0], FIELD[1, 0] = (3, 4), (8.1, 10.8)
WHEEL = "colour: where it moves to, as from the middle of the wheel; full colour: 8 pixels per frame; white: rest"
CORNERS = np.array([[0, 0, 0], [2, 1, 1], [1, 1, 1]], np.float32)
STORED = {"features": torch.randn(3, 8), "coordinates": torch.tensor([[0, 0, 0], [9, 0, 0], [5, 3, 1]])}
SCAN = {
    "depth": torch.tensor([[[1.0, 0.0, 1.0]]]),
    "intrinsics": torch.tensor([[2.0, 0, 1], [0, 2.0, 0], [0, 0, 1]]),
    "poses": torch.eye(4)[None],
    "features": torch.randn(1, 1, 3, 8),
}
CASES: list[tuple[str, Any, dict[str, Any], list[str]]] = [
    ("audio", np.zeros(16_000, np.float32), {},
     ["blue: what is listened to, 1 window, 1.00 of 1.00 s (100 %)", "above: the whole sound, low notes below"]),
    ("audio", np.zeros(61 * 16_000, np.float32), {},
     ["blue: what is listened to, 2 windows, 10.24 of 61.00 s (17 %)",
      "above: the whole sound, low notes below; of every 0.14 s the loudest moment"]),
    ("depth", METRES, {}, ["measured 1.00 to 4.00 m; black: unknown, 25.0 %"]),
    ("depth", np.zeros((2, 2), np.float32), {}, ["nothing is known; black: unknown, 100.0 %"]),
    ("depth", FLAT_METRES, {},
     ["measured 2.00 to 2.03 m; black: unknown, 0.0 %",
      "flat, nearly one colour: a narrower near_m to far_m or window='per_clip' shows more"]),
    ("flow", np.zeros((2, 2, 2), np.float32), {},
     ["measured: middle 0, 95 % up to 0, fastest 0 pixels per frame; unknown (white, as rest): 0.0 %", WHEEL]),
    ("flow", FIELD, {},
     ["measured: middle 5, 95 % up to 11.8, fastest 13.5 pixels per frame (20 % beyond full colour); unknown (white, "
      "as rest): 58.3 %", WHEEL]),
    ("flow", np.full((3, 4, 2), np.nan, np.float32), {},
     ["no motion is known; unknown (white, as rest): 100.0 %", WHEEL]),
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
    ("thermal", np.array([[293.15, 294.15]], np.float32), {},
     ["measured 20.0 to 21.0 °C, 0 % outside the window (fixed)",
      "flat, nearly one colour: a narrower coldest_c to hottest_c or window='per_clip' shows more"]),
    ("thermal", np.array([[293.15, 294.15]], np.float32), {"window": "per_clip"},
     ["measured 20.0 to 21.0 °C, 100 % outside the window (per_clip)"]),
    ("thermal", np.zeros((2, 2), np.uint8), {},
     ["finished heatmap, kept as it is: its colours' temperatures are not known"]),
    ("touch", np.zeros((10, 20, 3), np.uint8), {}, ["as recorded; sensor 20 x 10, encoder 16 x 16 pixels"]),
]  # fmt: skip


def modality_of(name: str, options: dict[str, Any]) -> Modality:
    spec = registry.resolve(name).spec
    modality: Modality = spec.load_factory()(spec.parse_options(options), BuildContext(image_size=16))
    return modality


def spied(monkeypatch: pytest.MonkeyPatch, *modules: str) -> list[tuple[Tensor, list[str]]]:
    """Return the frames that will be drawn, with their captions."""
    drawn: list[tuple[Tensor, list[str]]] = []

    def panel(frames: Tensor, captions: list[str], *, has_times: bool = True) -> Tensor:
        drawn.append((frames, captions))
        return sheets.frames_panel(frames, captions, has_times=has_times)

    for module in modules or ("crema_core.video.seeing",):
        monkeypatch.setattr(f"{module}.frames_panel", panel)
    return drawn


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
    drawn = spied(monkeypatch)
    modality_of("touch", {}).show(np.zeros((10, 20, 3), np.uint8))
    assert [frames.shape for frames, _ in drawn] == [(1, 3, 16, 32)]


@needs_names("modality", "pointcloud")
def test_views_without_any_depth_have_no_picture() -> None:
    blank = {**SCAN, "depth": torch.zeros(1, 1, 3)}
    with pytest.raises(MediaError) as caught:
        modality_of("pointcloud", {"encoder": "views", "feature_dim": 8}).show(blank)
    assert str(caught.value) == (
        "The scan has no patch with a known depth. Only patches with a place in space can be drawn. Check the depth "
        "maps."
    )


TAKEN: list[tuple[str, dict[str, Any], str]] = [
    ("video", {"num_frames": 3}, "x.mp4#t=1.2,3"),
    ("video", {"fps": 4.0, "num_frames": 30}, "x.mp4"),
    ("video", {"num_frames": 2, "start_s": 0.5}, "x.mp4#t=1,4"),
    ("video", {"num_frames": 3}, "pages.tif"),
    ("dense_video", {}, "x.mp4#t=1.2,3"),
    ("dense_video", {}, "x.mp4"),
    ("dense_video", {"fps": 30.0, "num_frames": 20}, "x.mp4"),
    ("dense_video", {}, "pages.tif"),
    ("exo_views", {"num_frames": 3}, "x.mp4#t=1.2,3"),
    ("thermal", {"num_frames": 3}, "x.mp4#t=1.2,3"),
    ("touch", {"num_frames": 3}, "x.mp4#t=1.2,3"),
    ("touch", {"num_frames": 2, "background": "auto", "only_contact": True}, "x.mp4"),
]


@pytest.fixture(scope="module")
def media(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("media")
    write_clip(folder / "x.mp4", num_frames=60)
    pages = [Image.fromarray(np.full((16, 16, 3), 20 * number, np.uint8)) for number in range(5)]
    pages[0].save(folder / "pages.tif", save_all=True, append_images=pages[1:])
    return folder


@pytest.mark.parametrize(
    ("name", "options", "source"),
    [pytest.param(*case, id=f"{case[0]}-{case[2]}", marks=needs_names("modality", case[0])) for case in TAKEN],
)
def test_the_frames_drawn_are_those_the_encoder_gets(
    name: str, options: dict[str, Any], source: str, media: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn = spied(monkeypatch)
    modality = modality_of(name, options)
    modality.show(str(media / source))
    sample = modality.prepare(str(media / source))
    [(frames, captions)] = drawn
    given = sample.tensors["frames"].flatten(0, -4)
    assert len(frames) == len(given)
    torch.testing.assert_close(modality.context.normalize(resize(frames, 16)), given)
    if sample.times is not None:
        assert captions == [f"{start:.2f}-{end:.2f} s" for start, end in sample.times.tolist()]
    elif source == "pages.tif":
        wanted = [1, 2, 3, 4, 5] if name == "dense_video" else [1, 3, 5]
        assert captions == [f"{number} of 5" for number in wanted]
    else:
        assert all(caption.endswith(" s") for caption in captions), "a clip has a clock, whether or not it is used"


@pytest.mark.parametrize("name", [pytest.param(own, marks=needs_names("modality", own)) for own in ("depth", "flow")])
def test_the_maps_drawn_are_those_the_encoder_gets(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn = spied(monkeypatch, "crema_geometry.modality")
    maps = torch.linspace(0.6, 9, 10)[:, None, None].expand(10, 16, 16)
    source = maps if name == "depth" else torch.stack([maps, -maps], dim=-1)
    modality = modality_of(name, {})
    modality.show(source)
    [(frames, captions)] = drawn
    torch.testing.assert_close(modality.context.normalize(frames), modality.prepare(source).tensors["frames"])
    assert captions == ["2 of 10", "4 of 10", "7 of 10", "9 of 10"]


class Eight(torch.nn.Module):
    """A vision encoder that sees eight frames together, two a step."""

    sees_clips, frames_per_step = True, 2

    def frames_wanted(self, num_frames: int) -> int:
        return 8

    def prepare(self, frames: Tensor) -> Tensor:
        return frames


@pytest.mark.parametrize(("num_available", "numbers"), [(60, 8), (3, 8)])
def test_frames_of_an_encoder_of_clips_are_drawn_as_many_as_it_sees(
    num_available: int, numbers: int, media: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn = spied(monkeypatch)
    modality = modality_of("video", {"num_frames": 4})
    monkeypatch.setattr(modality.encoder, "vision_encoder", Eight())
    source = torch.arange(num_available, dtype=torch.uint8)[:, None, None, None].expand(-1, 3, 16, 16)
    modality.show(source)
    [(frames, captions)] = drawn
    assert torch.equal(frames, modality.prepare(source).tensors["frames"].flatten(0, 1))
    assert captions == [f"{int(own) + 1} of {num_available}" for own in frames[:, 0, 0, 0]]
    assert len(frames) == numbers


HINTS: list[tuple[str, Any, dict[str, Any], str]] = [
    ("thermal", np.array([[293.15, 294.15]], np.float32), {"coldest_c": 20.0, "hottest_c": 22.0},
     "The array has temperatures of 20.0 to 21.0 °C, 1.0 of the 35 °C that the colours cover (coldest_c=10 to "
     "hottest_c=45), so its picture is nearly one colour. Such differences are seen in a narrower window. Set "
     "coldest_c=20 and hottest_c=22 for the whole data set, or window='per_clip'."),
    ("depth", FLAT_METRES, {"near_m": 2.0, "far_m": 2.04},
     "The array has distances of 2 to 2.03 m, which near_m=0.5 to far_m=10 show in nearly one colour. Such differences "
     "are seen in a narrower window. Set near_m=2 and far_m=2.04 for the whole data set, or window='per_clip'."),
    ("flow", np.full((3, 4, 2), 0.003, np.float32), {"max_px": 0.0043},
     "The array moves by up to 0.0042 pixels per frame (95 % of its pixels), nearly white with max_px=8. Flow is "
     "counted in pixels of its own map from one frame to the next, not in shares of its width. Set max_px=0.0043 for "
     "such motion."),
    ("flow", np.full((3, 4, 2), 30, np.float32), {"max_px": 43.0},
     "The array moves by more than max_px=8 pixels per frame in 100 % of its pixels. Flow is counted in pixels of its "
     "own map from one frame to the next, not in shares of its width. Set max_px=43 for such motion."),
]  # fmt: skip


@pytest.mark.parametrize(
    ("name", "source", "options", "text"),
    [pytest.param(*case, id=case[3][:40], marks=needs_names("modality", case[0])) for case in HINTS],
)
def test_a_picture_that_shows_next_to_nothing_is_told_with_the_options_that_help(
    name: str, source: Any, options: dict[str, Any], text: str
) -> None:
    with collect_doubts() as doubts:
        modality_of(name, {}).show(source)
    assert [own.text for own in doubts] == [text]
    with collect_doubts() as doubts:
        modality_of(name, options).show(source)
    assert doubts == [], "the advice is taken"
