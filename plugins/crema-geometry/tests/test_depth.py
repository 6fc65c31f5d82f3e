"""The modality of depth."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from crema_core.data.media import ARRAY_SUFFIXES, IMAGE_SUFFIXES
from crema_core.errors import MediaError, OptionsError
from crema_core.modality import BuildContext
from crema_geometry.modality import DepthModality
from crema_geometry.plugin import DEPTH, DepthOptions
from crema_geometry.render import render_depth

PLAIN = BuildContext(image_size=8, image_mean=(0.0, 0.0, 0.0), image_std=(1.0, 1.0, 1.0))
ACCEPTED = f"A depth map is read from {', '.join((*IMAGE_SUFFIXES, *ARRAY_SUFFIXES, '.exr', '.pfm'))}."


def frames_of(source: object, **options: object) -> torch.Tensor:
    return DepthModality(DEPTH.parse_options(dict(options)), PLAIN).prepare(source).tensors["frames"]


def refusal(source: object) -> str:
    with pytest.raises(MediaError) as caught:
        frames_of(source)
    return str(caught.value)


def metres(value: float, count: int = 1) -> np.ndarray:
    return np.full((count, 6, 10), value, np.float32)


def test_millimetres_and_metres_look_alike(tmp_path: Path) -> None:
    Image.fromarray((metres(2.5)[0] * 1000).astype(np.uint16)).save(tmp_path / "a.png")
    np.savez(tmp_path / "a.npz", depth=metres(2.5))
    expected = frames_of(metres(2.5))
    assert expected.shape == (1, 3, 8, 8)
    for name in ("a.png", "a.npz"):
        torch.testing.assert_close(frames_of(tmp_path / name), expected, atol=1e-3, rtol=0)


def test_another_scale_is_an_option(tmp_path: Path) -> None:
    Image.fromarray((metres(2.5)[0] * 256).astype(np.uint16)).save(tmp_path / "a.png")
    frames = frames_of(tmp_path / "a.png", counts_per_metre=256.0)
    torch.testing.assert_close(frames, frames_of(metres(2.5)), atol=1e-3, rtol=0)


@pytest.mark.parametrize("scale", ["log", "inverse", "linear"])
@given(first=st.floats(0.5, 10), second=st.floats(0.5, 10))
def test_nearer_is_brighter_in_grey_on_every_scale(scale: str, first: float, second: float) -> None:
    options = DEPTH.parse_options({"scale": scale, "colormap": "grey"})
    assert isinstance(options, DepthOptions)
    near, far = (render_depth(torch.full((1, 1, 1), value), options).mean() for value in sorted((first, second)))
    assert float(near) >= float(far) - 1e-6


@pytest.mark.parametrize("scale", ["log", "inverse", "linear"])
def test_the_ends_of_the_window_are_the_ends_of_the_map(scale: str) -> None:
    options = DEPTH.parse_options({"scale": scale, "colormap": "grey", "near_m": 1.0, "far_m": 4.0})
    assert isinstance(options, DepthOptions)
    frames = render_depth(torch.tensor([[[0.2, 1.0, 4.0, 9.0]]]), options)[0, 0, 0]
    torch.testing.assert_close(frames, torch.tensor([1.0, 1.0, 0.0, 0.0]), atol=1e-5, rtol=0)


def test_near_is_red_and_far_is_blue() -> None:
    near, far = frames_of(metres(0.7))[0, :, 4, 4], frames_of(metres(8.0))[0, :, 4, 4]
    assert float(near[0]) > 0.6 > 0.4 > float(near[2])
    assert float(far[2]) > float(far[0])


def test_unknown_distances_are_black() -> None:
    frames = render_depth(torch.tensor([[[0.0, -1.0, float("nan"), float("inf"), 2.0]]]), DepthOptions())
    assert frames[..., :4].abs().max() == 0
    assert float(frames[..., 4].max()) > 0.2


def test_a_window_per_clip_is_shared_by_its_frames() -> None:
    source = np.concatenate([metres(2.0), metres(4.0)])
    near, far = frames_of(source, num_frames=2, window="per_clip", colormap="grey").mean(dim=(1, 2, 3)).tolist()
    assert near == pytest.approx(1, abs=0.01)
    assert far == pytest.approx(0, abs=0.01)
    assert bool(torch.isfinite(frames_of(np.zeros((4, 4), np.float32), window="per_clip")).all())


def test_eight_bits_hold_no_distances() -> None:
    assert refusal(np.zeros((4, 4), np.uint8)) == (
        "The depth map has 8-bit numbers. Depth is 16-bit counts or float metres; 8 bits hold no distances. Give the "
        "measured map, or give a finished picture to a modality that sees."
    )


def test_a_colour_picture_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    Image.new("RGB", (4, 5)).save(path)
    assert refusal(path) == (
        f"'{path}' has shape (5, 4, 3) and 8-bit numbers. Depth is one number of more than 8 bits per pixel. Give the "
        "measured map, or give a finished picture to a modality that sees."
    )


def test_an_absent_file_is_named(tmp_path: Path) -> None:
    path = tmp_path / "none.png"
    assert refusal(path) == f"'{path}' does not exist. {ACCEPTED} Check the path."


def test_an_empty_file_is_named(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    path.touch()
    assert refusal(path) == f"'{path}' is empty (0 bytes). {ACCEPTED} Write or download the file again."


def test_another_type_is_named(tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    path.write_bytes(b"x")
    assert refusal(path) == f"'{path}' ends in '.mp4'. {ACCEPTED} Convert the file, or pass its values as an array."


def test_a_damaged_file_is_named(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(b"\x89PNG but no more")
    assert refusal(path) == (
        f"'{path}' cannot be read: it is damaged (Pillow: it finds no picture). A picture is read from "
        f"{', '.join(IMAGE_SUFFIXES)}. Write or download the file again."
    )


def test_an_empty_window_is_refused() -> None:
    with pytest.raises(OptionsError, match=r"far_m \(0.1\) must be above near_m \(0.5\)"):
        DEPTH.parse_options({"far_m": 0.1})
