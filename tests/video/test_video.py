"""The built-in modality."""

from __future__ import annotations

from pathlib import Path

import av
import numpy as np
import pytest
import torch
from PIL import Image

from crema_core.errors import MediaError, OptionsError
from crema_core.modality import BuildContext, Modality
from crema_core.video.modality import VideoModality
from crema_core.video.plugin import SPEC


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
        "file to a modality that listens."
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


def test_options_of_models_saved_before_several_encoders_were_a_strategys_are_read() -> None:
    before = {"num_frames": 8, "encoders": None, "encoder_frames": "middle", "encoders_at_once": True}
    assert SPEC.parse_options(before) == SPEC.parse_options({"num_frames": 8})
    with pytest.raises(OptionsError, match="video: unknown option 'encoder_frames'"):
        SPEC.parse_options({**before, "encoder_frames": "released"})


def clip_modality(**options: float | str) -> Modality:
    """Return the modality on a backbone that sees whole clips of usually 6 frames and squashes nothing."""
    context = BuildContext(
        vision=lambda pixels: pixels.transpose(1, 2).flatten(2).transpose(1, 2),
        vision_dim=3,
        whole_clips=True,
        usual_frames=6,
        pictures=lambda frames: frames[:, :, :4, :4].float(),
    )
    return VideoModality(SPEC.parse_options(dict(options)), context)


def test_a_backbone_of_whole_clips_gets_one_step_and_its_usual_number_of_frames(clip: Path) -> None:
    sample = clip_modality().prepare(clip)
    assert sample.tensors["frames"].shape == (1, 6, 3, 4, 4), "prepared by the backbone's own rule"
    assert sample.times is not None
    assert sample.times.tolist() == [[0.0, 2.0]]
    assert clip_modality(num_frames=2).prepare(clip).tensors["frames"].shape == (1, 2, 3, 4, 4)
    assert VideoModality(SPEC.parse_options({"num_frames": 4}), clip_modality().context).options.num_frames == 4


def test_the_usual_number_of_frames_is_recorded_and_is_not_for_other_encoders() -> None:
    modality = clip_modality()
    assert modality.options.model_dump()["num_frames"] == 6
    assert "num_frames" in modality.options.model_fields_set
    assert build().options.model_dump()["num_frames"] == 4
    assert clip_modality(encoder="clip").options.model_dump()["num_frames"] == 4


def test_whole_clips_of_several_lengths_are_encoded_as_each_alone() -> None:
    modality = clip_modality()
    generator = torch.Generator().manual_seed(0)
    clips = [torch.rand(length, 3, 8, 8, generator=generator) for length in (9, 1, 9)]
    samples = [modality.prepare(one) for one in clips]
    together = modality.encode(modality.collate(samples))
    assert together.values.shape == (3, 1, 6 * 16, 3)
    assert together.mask.sum(-1).tolist() == [[6 * 16], [16], [6 * 16]]
    for row, sample in enumerate(samples):
        alone = modality.encode(modality.collate([sample]))
        assert alone.mask.shape == (1, 1)
        assert torch.equal(together.values[row, :, : alone.values.shape[2]], alone.values[0])
        assert not together.values[row, :, alone.values.shape[2] :].any()
