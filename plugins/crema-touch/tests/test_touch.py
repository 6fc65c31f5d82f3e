"""The touch modality."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from crema_core.data.media import CLIP_SUFFIXES, FRAME_SUFFIXES, IMAGE_SUFFIXES
from crema_core.errors import MediaError, OptionsError
from crema_core.modality import BuildContext
from crema_touch.modality import TouchModality, subtract_background
from crema_touch.plugin import SPEC

PLAIN = BuildContext(image_size=8, image_mean=(0.0, 0.0, 0.0), image_std=(1.0, 1.0, 1.0))


def build(**options: object) -> TouchModality:
    return TouchModality(SPEC.parse_options(dict(options)), PLAIN)


def frames_of(source: object, **options: object) -> torch.Tensor:
    return build(**options).prepare(source).tensors["frames"]


def gel(path: Path, level: int, mode: str = "RGB") -> Path:
    Image.new("RGB", (12, 10), (level, 100, 100)).convert(mode).save(path)
    return path


def refusal(source: object, **options: object) -> str:
    with pytest.raises(MediaError) as caught:
        frames_of(source, **options)
    return str(caught.value)


@pytest.mark.parametrize("name", ["a.png", "a.jpg", "a.bmp"])
def test_an_image_is_one_step(tmp_path: Path, name: str) -> None:
    frames = frames_of(gel(tmp_path / name, 200))
    assert frames.shape == (1, 3, 8, 8)
    assert float(frames[0, 0].mean()) == pytest.approx(200 / 255, abs=0.02)


def test_a_folder_is_one_step_unless_more_are_asked(tmp_path: Path) -> None:
    for number in range(8):
        gel(tmp_path / f"{number}.png", 20 * number)
    assert frames_of(tmp_path).shape[0] == 1
    frames = frames_of(tmp_path, num_frames=2)
    assert [round(float(frame[0].mean()) * 255) for frame in frames] == [40, 120]


def test_the_background_is_subtracted_around_one_half(tmp_path: Path) -> None:
    background = gel(tmp_path / "background.png", 100)
    frames = frames_of(gel(tmp_path / "a.png", 151), background=str(background))
    assert float(frames[0, 0].mean()) == pytest.approx(0.5 + 51 / 255 / 2, abs=0.01)
    assert float(frames[0, 1].mean()) == pytest.approx(0.5, abs=0.01)


def test_a_difference_stays_in_the_unit_range() -> None:
    high, low = torch.ones(1, 3, 2, 2), torch.zeros(1, 3, 2, 2)
    assert float(subtract_background(high, low).max()) == 1.0
    assert float(subtract_background(low, high).min()) == 0.0


def test_an_absent_background_is_named(tmp_path: Path) -> None:
    absent = str(tmp_path / "none.png")
    assert refusal(gel(tmp_path / "a.png", 1), background=absent) == (
        f"'{absent}' does not exist. A clip or picture is read from {', '.join(FRAME_SUFFIXES)}. Check the path."
    )


def test_an_absent_image_is_named(tmp_path: Path) -> None:
    path = tmp_path / "none.png"
    assert refusal(path) == (
        f"'{path}' does not exist. A clip or picture is read from {', '.join(FRAME_SUFFIXES)}. Check the path."
    )


def test_an_empty_image_is_named(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    path.touch()
    assert refusal(path) == (
        f"'{path}' is empty (0 bytes). A clip or picture is read from {', '.join(FRAME_SUFFIXES)}. Write or download "
        "the file again."
    )


def test_a_damaged_image_is_named(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(b"\x89PNG but no more")
    assert refusal(path) == (
        f"'{path}' cannot be read: it is damaged (Pillow: it finds no picture). A picture is read from "
        f"{', '.join(IMAGE_SUFFIXES)}. Write or download the file again."
    )


def test_a_damaged_recording_is_named(tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    path.write_bytes(b"no recording" * 50)
    assert refusal(path) == (
        f"'{path}' cannot be read: FFmpeg reports 'Invalid data found when processing input'. A clip is read from "
        f"{', '.join(CLIP_SUFFIXES)}. Write or download the file again."
    )


def test_sixteen_bit_images_are_not_tactile(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    Image.fromarray(np.zeros((4, 4), np.uint16)).save(path)
    assert refusal(path) == (
        f"'{path}' is a picture of uint16 numbers. RGB pictures have 8 bits per channel. Convert it to 8 bits, or give "
        "it to a modality that reads measurements."
    )


def test_unknown_options_are_refused_with_the_nearest_name() -> None:
    with pytest.raises(OptionsError) as caught:
        build(num_frame=2)
    assert str(caught.value) == (
        "touch: unknown option 'num_frame'. Accepted: background, background_frames, encoder, encoder_layer, "
        "num_frames, only_contact, own_tokens, revision, weights. Did you mean 'num_frames'?"
    )
