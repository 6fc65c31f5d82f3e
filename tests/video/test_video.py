"""The built-in sense."""

from __future__ import annotations

from pathlib import Path

import av
import numpy as np
import pytest
import torch
from PIL import Image

from crema_core.api.build import build as build_model
from crema_core.api.load import load
from crema_core.errors import MediaError, OptionsError
from crema_core.modality import BuildContext, Modality
from crema_core.video.modality import VideoModality
from crema_core.video.plugin import SPEC
from tests.support import towers


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


def test_frames_are_normalised_squares_with_times(clip: Path) -> None:
    sample = build().prepare(str(clip))
    frames = sample.tensors["frames"]
    assert frames.shape == (4, 3, 8, 8)
    context = build().context
    levels = frames[:, 0, 0, 0] * context.image_std[0] + context.image_mean[0]
    torch.testing.assert_close(levels, torch.tensor([20.0, 60.0, 100.0, 140.0]) / 255, atol=0.012, rtol=0)
    assert sample.times is not None
    assert sample.times.tolist() == [[0.0, 0.5], [0.5, 1.0], [1.0, 1.5], [1.5, 2.0]]


def test_a_part_of_a_clip_can_be_chosen(clip: Path) -> None:
    sample = build(num_frames=1, start_s=1.0, end_s=1.5).prepare(clip)
    assert sample.times is not None
    assert sample.times.tolist() == [[1.0, 1.5]]


def test_every_frame_is_encoded(clip: Path) -> None:
    modality = build(num_frames=2)
    features = modality.encode(modality.collate([modality.prepare(clip)] * 3))
    assert features.values.shape == (3, 2, 64, 3)
    assert features.mask.shape == (3, 2)
    assert features.times is not None
    assert features.times.shape == (3, 2, 2)


def test_options_that_contradict_each_other_are_refused() -> None:
    with pytest.raises(OptionsError, match=r"end_s \(1\) must be after start_s \(2\)"):
        build(start_s=2.0, end_s=1.0)


def test_an_absent_clip_is_named(tmp_path: Path) -> None:
    from crema_core.data.media import CLIP_SUFFIXES, FRAME_SUFFIXES

    path = tmp_path / "absent.mp4"
    with pytest.raises(MediaError) as caught:
        build().prepare(path)
    assert str(caught.value) == (
        f"'{path}' does not exist. A clip is read from {', '.join(CLIP_SUFFIXES)}. Check the path."
    )
    assert set(CLIP_SUFFIXES) < set(FRAME_SUFFIXES)


def save_sound(path: Path) -> Path:
    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=16_000)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
        frame.sample_rate = 16_000
        container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def test_a_file_of_sound_alone_is_refused(tmp_path: Path) -> None:
    path = save_sound(tmp_path / "a.mp4")
    with pytest.raises(MediaError) as caught:
        build().prepare(path)
    assert str(caught.value) == (
        f"'{path}' has no picture stream, only sound. A clip needs pictures. Name a file that has them, or give this "
        "file to a sense that listens."
    )


def test_frames_per_second_are_taken_up_to_the_most(clip: Path) -> None:
    sample = build(fps=2.0, num_frames=64).prepare(clip)
    assert sample.times is not None
    assert sample.times.tolist() == [[0.0, 0.5], [0.5, 1.0], [1.0, 1.5], [1.5, 2.0]]
    assert len(build(fps=8.0, num_frames=3).prepare(clip).tensors["frames"]) == 3


def test_frames_per_second_of_pictures_are_refused(tmp_path: Path) -> None:
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    with pytest.raises(MediaError) as caught:
        build(fps=2.0).prepare(tmp_path / "a.png")
    assert str(caught.value) == (
        "fps=2 was given for pictures without a clock. It needs a clip file. Leave it out, or pass a clip file."
    )


def test_a_folder_of_frames_is_read_in_order(tmp_path: Path) -> None:
    for number in range(12):
        Image.new("RGB", (8, 8), (20 * number,) * 3).save(tmp_path / f"{number}.png")
    frames = build(num_frames=3).prepare(tmp_path).tensors["frames"]
    context = build().context
    levels = frames[:, 0, 0, 0] * context.image_std[0] + context.image_mean[0]
    torch.testing.assert_close(levels * 255, torch.tensor([40.0, 120.0, 200.0]), atol=0.5, rtol=0)


@pytest.fixture(scope="module")
def tower_folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    torch.manual_seed(0)
    place = tmp_path_factory.mktemp("towers")
    return {"siglip": towers.save_siglip(place / "siglip"), "vivit": towers.save_vivit(place / "vivit")}


@pytest.mark.parametrize(("name", "steps"), [("siglip", 3), ("vivit", 2)])
def test_a_tower_looks_instead_of_the_backbone(
    clip: Path, tower_folders: dict[str, Path], name: str, steps: int
) -> None:
    modality = build(encoder=name, weights=str(tower_folders[name]), num_frames=3)
    modality.load_assets(None)
    features = modality.encode(modality.collate([modality.prepare(clip), modality.prepare(clip)]))
    assert features.values.shape == (2, steps, 4, 8)
    assert features.mask.all()
    assert features.times is not None
    assert features.times[0, 0, 0] == 0
    assert features.times[0, -1, 1] == 2
    assert modality.feature_dim == 8


def test_a_tower_that_sees_clips_takes_a_picture_for_a_still_clip(tower_folders: dict[str, Path]) -> None:
    modality = build(encoder="vivit", weights=str(tower_folders["vivit"]))
    modality.load_assets(None)
    sample = modality.prepare(torch.rand(3, 20, 20))
    assert sample.tensors["frames"].shape == (2, 2, 3, 16, 16)
    assert sample.times is None


def test_frames_per_second_and_a_fixed_number_of_frames_contradict(tower_folders: dict[str, Path]) -> None:
    with pytest.raises(OptionsError) as caught:
        build(encoder="vivit", weights=str(tower_folders["vivit"]), fps=2.0).load_assets(None)
    assert str(caught.value) == (
        "fps=2 was set with encoder='vivit', which sees a fixed number of frames together. Frames per second need an "
        "encoder of single frames. Leave fps out, or use encoder='backbone'."
    )


@pytest.mark.parametrize("name", ["siglip", "vivit"])
def test_a_model_with_a_tower_answers_is_saved_and_comes_back(
    clip: Path, tower_folders: dict[str, Path], t5_folder: Path, tmp_path: Path, name: str
) -> None:
    request = {"name": "video", "encoder": name, "weights": str(tower_folders[name]), "num_frames": 2}
    model = build_model([request], backbone=t5_folder)
    assert model.sense("video").adapter.projection.weight.shape == (16, 8)
    answer = model.answer("what is it", video=str(clip))
    assert not [key for key in model.trainable_parameters() if "tower" in key]
    rows = {row.name: row for row in model.describe().components}
    assert rows["video"].frozen == sum(p.numel() for p in model.sense("video").modality.parameters())
    model.save_pretrained(tmp_path / "model")
    again = load(tmp_path / "model")
    assert again.answer("what is it", video=str(clip)).text == answer.text
    assert not list((tmp_path / "model").rglob("*vision*"))


def test_options_of_models_saved_before_several_encoders_were_a_strategys_are_read() -> None:
    before = {"num_frames": 8, "encoders": None, "encoder_frames": "middle", "encoders_at_once": True}
    assert SPEC.parse_options(before) == SPEC.parse_options({"num_frames": 8})
    with pytest.raises(OptionsError, match="video: unknown option 'encoder_frames'"):
        SPEC.parse_options({**before, "encoder_frames": "released"})
