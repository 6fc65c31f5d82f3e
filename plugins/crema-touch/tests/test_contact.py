"""Finding the gel at rest and the frames where it is pressed; other encoders."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from crema_core.errors import MediaError, OptionsError
from crema_core.modality import BuildContext
from crema_touch.contact import frames_in_contact, median_of
from crema_touch.modality import TouchModality, locate
from crema_touch.plugin import SPEC
from tests.support import vision_encoders

PLAIN = BuildContext(image_size=8, image_mean=(0.0, 0.0, 0.0), image_std=(1.0, 1.0, 1.0))


def recording(count: int = 30, pressed: range = range(10, 20)) -> torch.Tensor:
    """Noise around mid grey, brighter in the middle while pressed."""
    generator = torch.Generator().manual_seed(0)
    frames = 0.5 + 0.01 * torch.randn(count, 3, 16, 16, generator=generator)
    frames[pressed.start : pressed.stop, :, 4:12, 4:12] += 0.3
    return frames.clamp(0, 1)


def frames_of(source: object, **options: object) -> torch.Tensor:
    return TouchModality(SPEC.parse_options(dict(options)), PLAIN).prepare(source).tensors["frames"]


def test_the_frames_in_contact_are_found_exactly() -> None:
    frames = recording()
    assert frames_in_contact(frames, median_of(frames[:5])) == list(range(10, 20))


def test_without_contact_the_most_different_frame_is_taken() -> None:
    frames = torch.full((4, 3, 8, 8), 0.5)
    assert frames_in_contact(frames, frames[:1]) == [0]


def test_the_background_is_the_median_of_the_first_frames() -> None:
    frames = frames_of(recording(), background="auto", num_frames=30)
    assert float((frames[:10] - 0.5).abs().mean()) < 0.01
    assert float(frames[12, :, 4, 4].mean()) > 0.6


def test_only_frames_with_contact_are_taken() -> None:
    frames = frames_of(recording(), background="auto", only_contact=True, num_frames=4)
    assert len(frames) == 4
    assert bool((frames[:, :, 4, 4].mean(dim=1) > 0.6).all())


def test_contact_without_a_background_is_refused() -> None:
    with pytest.raises(OptionsError) as caught:
        SPEC.parse_options({"only_contact": True})
    assert str(caught.value) == (
        "touch: only_contact needs background, a path or 'auto', to compare with, got {'only_contact': "
        "True}. Give another value, for example the default."
    )


def test_a_single_image_has_no_background_of_its_own(tmp_path: Path) -> None:
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    with pytest.raises(MediaError) as caught:
        frames_of(tmp_path / "a.png", background="auto")
    assert str(caught.value) == (
        "A single tactile image has no frames before contact, and background='auto' takes it from those. It needs a "
        "recording. Name an image without contact as background, or leave background out."
    )


def test_a_recording_of_touch_and_go_is_found_in_its_folder(tmp_path: Path) -> None:
    place = tmp_path / "20220601_182052"
    (place / "video_frame").mkdir(parents=True)
    (place / "gelsight_frame").mkdir()
    Image.new("RGB", (8, 8), (255, 0, 0)).save(place / "video_frame" / "0000000001.jpg")
    for number in range(3):
        Image.fromarray(np.full((8, 8, 3), 100 * number, np.uint8)).save(place / "gelsight_frame" / f"{number:010}.png")
    frames = frames_of(str(place), num_frames=3)
    torch.testing.assert_close(frames[:, 0, 0, 0] * 255, torch.tensor([0.0, 100.0, 200.0]))
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "gelsight.mp4").touch()
    assert locate(tmp_path / "other") == tmp_path / "other" / "gelsight.mp4"
    assert locate(3) == 3


def test_another_encoder_is_an_option(tmp_path: Path) -> None:
    folder = vision_encoders.save_clip(tmp_path / "clip")
    modality = TouchModality(SPEC.parse_options({"encoder": "clip", "weights": str(folder), "num_frames": 2}), PLAIN)
    modality.load_assets(None)
    features = modality.encode(modality.collate([modality.prepare(recording())]))
    assert features.values.shape == (1, 2, 4, 8)
    assert modality.feature_dim == 8
