"""The modality of video through an encoder of this package."""

from __future__ import annotations

from pathlib import Path

import av
import numpy as np
import pytest
import torch

from crema_core.api.build import build as build_model
from crema_core.api.load import load
from crema_core.errors import OptionsError
from crema_core.modality import BuildContext, Modality
from crema_core.video.modality import VideoModality
from crema_core.video.plugin import SPEC
from tests.support import vision_encoders


def build(**options: float | str) -> Modality:
    context = BuildContext(vision=lambda pixels: pixels.flatten(2).transpose(1, 2), vision_dim=3, image_size=8)
    return VideoModality(SPEC.parse_options(dict(options)), context)


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    path = tmp_path / "a.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=8, options={"threads": "1"})
        stream.width, stream.height = 48, 32
        for number in range(16):
            pixels = np.full((32, 48, 3), 10 * number, np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        container.mux(stream.encode())
    return path


@pytest.fixture(scope="module")
def vision_encoder_folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    torch.manual_seed(0)
    place = tmp_path_factory.mktemp("vision encoders")
    return {
        "siglip": vision_encoders.save_siglip(place / "siglip"),
        "vivit": vision_encoders.save_vivit(place / "vivit"),
    }


@pytest.mark.parametrize(("name", "steps"), [("siglip", 3), ("vivit", 2)])
def test_an_encoder_looks_instead_of_the_backbone(
    clip: Path, vision_encoder_folders: dict[str, Path], name: str, steps: int
) -> None:
    modality = build(encoder=name, weights=str(vision_encoder_folders[name]), num_frames=3)
    modality.load_assets(None)
    features = modality.encode(modality.collate([modality.prepare(clip), modality.prepare(clip)]))
    assert features.values.shape == (2, steps, 4, 8)
    assert features.mask.all()
    assert features.times is not None
    assert features.times[0, 0, 0] == 0
    assert features.times[0, -1, 1] == 2
    assert modality.feature_dim == 8


def test_an_encoder_that_sees_clips_takes_a_picture_for_a_still_clip(vision_encoder_folders: dict[str, Path]) -> None:
    modality = build(encoder="vivit", weights=str(vision_encoder_folders["vivit"]))
    modality.load_assets(None)
    sample = modality.prepare(torch.rand(3, 20, 20))
    assert sample.tensors["frames"].shape == (2, 2, 3, 16, 16)
    assert sample.times is None


def test_frames_per_second_and_a_fixed_number_of_frames_contradict(vision_encoder_folders: dict[str, Path]) -> None:
    with pytest.raises(OptionsError) as caught:
        build(encoder="vivit", weights=str(vision_encoder_folders["vivit"]), fps=2.0).load_assets(None)
    assert str(caught.value) == (
        "fps=2 was set with encoder='vivit', which sees a fixed number of frames together. Frames per second need an "
        "encoder of single frames. Leave fps out, or use encoder='backbone'."
    )


@pytest.mark.slow
@pytest.mark.parametrize("name", ["siglip", "vivit"])
def test_a_model_with_an_encoder_answers_is_saved_and_comes_back(
    clip: Path, vision_encoder_folders: dict[str, Path], t5_folder: Path, tmp_path: Path, name: str
) -> None:
    request = {"name": "video", "encoder": name, "weights": str(vision_encoder_folders[name]), "num_frames": 2}
    model = build_model([request], backbone=t5_folder)
    assert model.branch("video").adapter.projection.weight.shape == (16, 8)
    answer = model.answer("what is it", video=str(clip))
    assert not [key for key in model.trainable_parameters() if "vision_encoder" in key]
    rows = {row.name: row for row in model.describe().components}
    assert rows["video"].frozen == sum(p.numel() for p in model.branch("video").modality.parameters())
    model.save_pretrained(tmp_path / "model")
    again = load(tmp_path / "model")
    assert again.answer("what is it", video=str(clip)).text == answer.text
    assert not list((tmp_path / "model").rglob("*vision*"))
