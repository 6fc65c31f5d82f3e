"""The modality of hearing."""

from __future__ import annotations

import math
import tracemalloc
import wave
from pathlib import Path

import numpy as np
import pytest
import torch

from crema_audio.encoders import BACKBONE, ENCODERS
from crema_audio.encoders.patches import PatchEncoder, sinusoids
from crema_audio.modality import AudioModality
from crema_audio.plugin import BAND_DIM, PATCH_DIM, SPEC, TIME_DIM, AudioOptions
from crema_audio.windows import window_starts
from crema_core.data.media import SOUND_SUFFIXES
from crema_core.errors import MediaError
from crema_core.modality import BuildContext

ACCEPTED = f"A sound is read from {', '.join(SOUND_SUFFIXES)}."


def build(**options: object) -> AudioModality:
    return AudioModality(SPEC.parse_options(dict(options)), BuildContext())


def tone(seconds: float, hertz: float = 440.0, rate: int = 16_000) -> np.ndarray:
    return (0.5 * np.sin(2 * math.pi * hertz * np.arange(round(rate * seconds)) / rate)).astype(np.float32)


def write_wave(path: Path, samples: np.ndarray, rate: int = 16_000) -> Path:
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes((samples * 32767).round().astype("<i2").tobytes())
    return path


def refusal(source: object) -> str:
    with pytest.raises(MediaError) as caught:
        build().prepare(source)
    return str(caught.value)


def test_windows_carry_their_times(tmp_path: Path) -> None:
    path = write_wave(tmp_path / "a.wav", tone(2.0))
    sample = build(window_s=0.48, num_windows=2, placement="first").prepare(path)
    assert sample.tensors["windows"].shape == (2, 48, 128)
    assert sample.tensors["lengths"].tolist() == [48, 48]
    assert sample.times is not None
    torch.testing.assert_close(sample.times, torch.tensor([[0.0, 0.48], [0.48, 0.96]]))


def test_a_short_sound_is_one_short_window() -> None:
    sample = build().prepare(tone(0.5))
    assert sample.tensors["windows"].shape == (1, 48, 128)
    assert sample.tensors["lengths"].tolist() == [48]
    sample = build().prepare(tone(0.6))
    assert sample.tensors["windows"].shape == (1, 64, 128)
    assert sample.tensors["lengths"].tolist() == [58]
    assert sample.tensors["windows"][0, 58:].abs().max() == 0


@pytest.mark.parametrize("num_samples", [1, 100, 399, 401])
def test_a_blink_of_sound_is_padded(num_samples: int) -> None:
    modality = build()
    features = modality.encode(modality.collate([modality.prepare(np.full(num_samples, 0.1, np.float32))]))
    assert features.values.shape == (1, 1, 8, PATCH_DIM)
    assert bool(features.mask.all())


def test_silence_is_a_sound() -> None:
    modality = build()
    features = modality.encode(modality.collate([modality.prepare(np.zeros(16_000, np.float32))]))
    assert bool(torch.isfinite(features.values).all())
    assert bool(features.mask.any())


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ((50, 100, 4, "spread"), [0]),
        ((250, 100, 4, "spread"), [0, 100, 200]),
        ((1000, 100, 3, "spread"), [0, 450, 900]),
        ((1000, 100, 1, "spread"), [450]),
        ((1000, 100, 3, "first"), [0, 100, 200]),
        ((0, 100, 3, "first"), [0]),
    ],
)
def test_where_windows_begin(arguments: tuple[int, int, int, str], expected: list[int]) -> None:
    assert window_starts(*arguments) == expected


@pytest.mark.parametrize(
    ("arguments", "stride", "expected"),
    [
        ((250, 100, 9, "first"), 50, [0, 50, 100, 150]),
        ((250, 100, 2, "first"), 50, [0, 50]),
        ((1000, 100, 3, "spread"), 100, [100, 400, 800]),
        ((50, 100, 3, "spread"), 25, [0]),
        ((101, 100, 3, "spread"), 100, [0, 100]),
    ],
)
def test_where_windows_with_a_stride_begin(
    arguments: tuple[int, int, int, str], stride: int, expected: list[int]
) -> None:
    assert window_starts(*arguments, stride=stride) == expected


def test_overlapping_windows_carry_their_times() -> None:
    sample = build(window_s=0.32, stride_s=0.16, num_windows=8, placement="first").prepare(tone(1.0))
    assert sample.times is not None
    torch.testing.assert_close(sample.times[:3], torch.tensor([[0.0, 0.32], [0.16, 0.48], [0.32, 0.64]]))
    assert len(sample.times) == 6  # the last one is the first that reaches the end, 0.98 s of frames


def test_the_released_window_is_one_option_away() -> None:
    """CREMA: 2 clips of 512 frames, the first 10.24 s, 256 tokens each."""
    modality = build(placement="first")
    features = modality.encode(modality.collate([modality.prepare(tone(12.0))]))
    assert features.values.shape == (1, 2, 256, PATCH_DIM)


def test_patches_are_ordered_in_time_with_bands_together() -> None:
    fbank = torch.arange(32.0)[:, None] * 1000 + torch.arange(128.0)
    values, mask = PatchEncoder(AudioOptions())(fbank[None, None], torch.tensor([[32]]), torch.zeros(1, 1))
    assert values.shape == (1, 1, 16, 256 + TIME_DIM + BAND_DIM)
    assert bool(mask.all())
    patches = values[0, 0, :, :256]
    assert torch.equal(patches[0], fbank[:16, :16].flatten())
    assert torch.equal(patches[1], fbank[:16, 16:32].flatten())
    assert torch.equal(patches[8], fbank[16:, :16].flatten())


def test_a_later_window_has_another_time_but_the_same_sound() -> None:
    fbank = torch.rand(1, 1, 16, 128)
    early, _ = PatchEncoder(AudioOptions())(fbank, torch.tensor([[16]]), torch.zeros(1, 1))
    late, _ = PatchEncoder(AudioOptions())(fbank, torch.tensor([[16]]), torch.ones(1, 1))
    assert torch.equal(early[..., :256], late[..., :256])
    assert not torch.equal(early[..., 256 : 256 + TIME_DIM], late[..., 256 : 256 + TIME_DIM])
    assert torch.equal(early[..., 256 + TIME_DIM :], late[..., 256 + TIME_DIM :])


def test_time_codes_tell_instants_apart() -> None:
    codes = sinusoids(torch.arange(0, 30, 0.16), TIME_DIM, shortest=0.64)
    distances = torch.cdist(codes, codes) + 99 * torch.eye(len(codes))
    assert float(distances.min()) > 0.3


def test_tokens_behind_the_end_are_masked() -> None:
    modality = build(window_s=0.32, num_windows=4)
    features = modality.encode(modality.collate([modality.prepare(tone(0.2)), modality.prepare(tone(1.0))]))
    assert features.mask.shape == (2, 4, 16)
    assert features.mask[0].sum() == 16  # 18 frames: two rows of eight bands
    assert features.mask[1, :3].all()
    assert not features.mask[1, 3, 8:].any()  # 98 frames: the last window has two


def test_every_encoder_option_has_an_encoder() -> None:
    named, left_open = AudioOptions.model_json_schema()["properties"]["encoder"]["anyOf"]
    assert set(named["enum"]) == {*ENCODERS, BACKBONE}
    assert left_open == {"type": "null"}


def test_an_absent_file_is_named(tmp_path: Path) -> None:
    path = tmp_path / "none.wav"
    assert refusal(path) == f"'{path}' does not exist. {ACCEPTED} Check the path."


def test_an_empty_file_is_named(tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    path.touch()
    assert refusal(path) == f"'{path}' is empty (0 bytes). {ACCEPTED} Write or download the file again."


def test_a_damaged_file_is_named(tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    path.write_bytes(b"no sound" * 64)
    assert refusal(path) == (
        f"'{path}' cannot be read: FFmpeg reports 'Invalid data found when processing input'. {ACCEPTED} "
        "Write or download the file again."
    )


def test_another_type_is_named(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(b"x")
    assert refusal(path) == f"'{path}' ends in '.png'. {ACCEPTED} Convert the file, or pass its values as an array."


@pytest.fixture(scope="module")
def hour(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One hour at 8 kHz, loud in the two minutes in its middle alone."""
    path = tmp_path_factory.mktemp("hour") / "hour.wav"
    noise = np.random.default_rng(0).integers(-9000, 9000, 8_000 * 60, dtype=np.int16)
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(8_000)
        for minute in range(60):
            file.writeframesraw((noise if minute in (29, 30) else noise // 1000).astype("<i2").tobytes())
    return path


@pytest.mark.parametrize(("placement", "heard"), [("first", [False] * 3), ("spread", [False, True, False])])
def test_of_an_hour_only_the_windows_are_read(hour: Path, placement: str, heard: list[bool]) -> None:
    modality = build(num_windows=3, window_s=10.24, placement=placement)
    tracemalloc.start()
    sample = modality.prepare(hour)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert sample.tensors["windows"].shape == (3, 1024, 128)
    assert [float(window.mean()) > 0 for window in sample.tensors["windows"]] == heard
    assert sample.times is not None
    if placement == "spread":
        assert float(sample.times[-1, 1]) == pytest.approx(3600, abs=0.1)
    assert peak < 5_000_000, "the whole would be 230 MB"
