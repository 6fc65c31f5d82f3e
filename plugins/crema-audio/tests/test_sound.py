"""Reading sound."""

from __future__ import annotations

import math
import wave
from pathlib import Path

import av
import numpy as np
import pytest
import torch

from crema_audio.sound import SOUND_SUFFIXES, read_sound
from crema_core.errors import MediaError

RATE = 16_000
ACCEPTED = f"A sound is read from {', '.join(SOUND_SUFFIXES)}."


def tone(rate: int = RATE, seconds: float = 0.5, hertz: float = 440.0) -> np.ndarray:
    return (0.5 * np.sin(2 * math.pi * hertz * np.arange(int(rate * seconds)) / rate)).astype(np.float32)


def write_wave(path: Path, channels: np.ndarray, rate: int = RATE) -> Path:
    with wave.open(str(path), "wb") as file:
        file.setnchannels(len(channels))
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes((channels.T * 32767).round().astype("<i2").tobytes())
    return path


def write_coded(path: Path, codec: str, samples: np.ndarray, rate: int, *, with_pictures: bool = False) -> Path:
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=rate, layout="mono")
        if with_pictures:
            pictures = container.add_stream("mpeg4", rate=8)
            pictures.width = pictures.height = 32
            pictures.pix_fmt = "yuv420p"
            for _ in range(4):
                container.mux(pictures.encode(av.VideoFrame.from_ndarray(np.zeros((32, 32, 3), np.uint8))))
            container.mux(pictures.encode())
        frame = av.AudioFrame.from_ndarray(samples[None], format="fltp", layout="mono")
        frame.sample_rate = rate
        fifo = av.AudioFifo()
        fifo.write(frame)
        resampler = av.AudioResampler(format=stream.format, layout="mono", rate=rate)
        while piece := fifo.read(stream.frame_size or 1024, partial=True):
            for out in resampler.resample(piece):
                container.mux(stream.encode(out))
        container.mux(stream.encode())
    return path


def peak_hertz(samples: torch.Tensor) -> float:
    spectrum = torch.fft.rfft(samples * torch.hann_window(len(samples))).abs()
    return float(spectrum.argmax()) * RATE / len(samples)


def refusal(source: object, **settings: float) -> str:
    with pytest.raises(MediaError) as caught:
        read_sound(source, sample_rate_hz=RATE, **settings)  # type: ignore[arg-type]
    return str(caught.value)


def test_a_wave_file_is_read_as_it_is(tmp_path: Path) -> None:
    sound = read_sound(write_wave(tmp_path / "a.wav", tone()[None]), sample_rate_hz=RATE)
    assert sound.start_s == 0
    assert sound.samples.dtype == torch.float32
    torch.testing.assert_close(sound.samples, torch.from_numpy(tone()), atol=1e-4, rtol=0)


def test_channels_are_averaged(tmp_path: Path) -> None:
    stereo = np.stack([tone(), np.zeros_like(tone())])
    sound = read_sound(write_wave(tmp_path / "a.wav", stereo), sample_rate_hz=RATE)
    torch.testing.assert_close(sound.samples, torch.from_numpy(tone() / 2), atol=1e-4, rtol=0)
    torch.testing.assert_close(read_sound(stereo, sample_rate_hz=RATE).samples, torch.from_numpy(tone() / 2))


@pytest.mark.parametrize("rate", [8_000, 22_050, 44_100, 48_000])
def test_any_rate_is_resampled(tmp_path: Path, rate: int) -> None:
    path = write_wave(tmp_path / "a.wav", tone(rate)[None], rate)
    for source in (path, (tone(rate), rate), (torch.from_numpy(tone(rate)), rate)):
        samples = read_sound(source, sample_rate_hz=RATE).samples
        assert len(samples) == pytest.approx(8000, abs=40)
        assert peak_hertz(samples) == pytest.approx(440, abs=4)
        assert float(samples.abs().max()) == pytest.approx(0.5, abs=0.05)


@pytest.mark.parametrize(
    ("name", "codec"), [("a.flac", "flac"), ("a.mp3", "libmp3lame"), ("a.ogg", "libopus"), ("a.m4a", "aac")]
)
def test_coded_sound_is_read(tmp_path: Path, name: str, codec: str) -> None:
    samples = read_sound(write_coded(tmp_path / name, codec, tone(48_000), 48_000), sample_rate_hz=RATE).samples
    assert len(samples) == pytest.approx(8000, abs=1500)
    assert peak_hertz(samples) == pytest.approx(440, abs=4)


def test_the_sound_track_of_a_clip_is_read(tmp_path: Path) -> None:
    path = write_coded(tmp_path / "a.mp4", "aac", tone(44_100), 44_100, with_pictures=True)
    assert peak_hertz(read_sound(path, sample_rate_hz=RATE).samples) == pytest.approx(440, abs=4)


def test_a_part_keeps_its_place(tmp_path: Path) -> None:
    path = write_wave(tmp_path / "a.wav", tone()[None])
    sound = read_sound(path, sample_rate_hz=RATE, start_s=0.25, end_s=0.375)
    assert sound.start_s == 0.25
    torch.testing.assert_close(sound.samples, torch.from_numpy(tone())[4000:6000], atol=1e-4, rtol=0)


def test_integers_are_full_scale() -> None:
    samples = read_sound(np.array([-32768, 0, 16384], np.int16), sample_rate_hz=RATE).samples
    assert samples.tolist() == [-1.0, 0.0, 0.5]


def test_a_part_beyond_the_end_is_refused(tmp_path: Path) -> None:
    path = write_wave(tmp_path / "a.wav", tone()[None])
    assert refusal(path, start_s=3.0) == (
        f"'{path}' has no sound from 3 s on; it lasts 0.5 s. A part must overlap 0..0.5 s. Change start_s and end_s."
    )
    assert refusal(path, start_s=3.0, end_s=4.0) == (
        f"'{path}' has no sound from 3 s to 4 s; it lasts 0.5 s. A part must overlap 0..0.5 s. "
        "Change start_s and end_s."
    )


def test_samples_that_are_not_finite_are_refused(tmp_path: Path) -> None:
    path = write_coded(tmp_path / "a.wav", "pcm_f32le", np.append(tone(), np.float32(np.nan)), RATE)
    assert refusal(path) == (
        f"'{path}' has values that are not finite. Samples are numbers in -1..1. Remove NaN and infinity first."
    )
    assert refusal(np.append(tone(), np.inf)) == (
        "The waveform has values that are not finite. Samples are numbers in -1..1. Remove NaN and infinity first."
    )


def test_a_file_without_samples_is_refused(tmp_path: Path) -> None:
    path = write_wave(tmp_path / "a.wav", np.zeros((1, 0)))
    assert refusal(path) == f"'{path}' cannot be read: it holds no sample. {ACCEPTED} Write or download the file again."


def test_a_wave_file_cut_short_is_refused(tmp_path: Path) -> None:
    path = write_wave(tmp_path / "a.wav", tone()[None])
    path.write_bytes(path.read_bytes()[:5000])
    assert refusal(path) == (
        f"'{path}' cannot be read: it is cut short, 5000 of 16044 bytes. {ACCEPTED} Write or download the file again."
    )


def test_a_streamed_wave_file_of_unknown_length_is_read(tmp_path: Path) -> None:
    path = write_wave(tmp_path / "a.wav", tone()[None])
    raw = bytearray(path.read_bytes())
    raw[4:8] = raw[40:44] = b"\xff\xff\xff\xff"
    path.write_bytes(raw)
    assert len(read_sound(path, sample_rate_hz=RATE).samples) == 8000


def test_bytes_that_are_no_sound_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    path.write_bytes(b"no sound at all" * 100)
    assert refusal(path) == (
        f"'{path}' cannot be read: FFmpeg reports 'Invalid data found when processing input'. {ACCEPTED} "
        "Write or download the file again."
    )


def test_a_silent_movie_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=8)
        stream.width = stream.height = 32
        container.mux(stream.encode(av.VideoFrame.from_ndarray(np.zeros((32, 32, 3), np.uint8))))
        container.mux(stream.encode())
    assert refusal(path) == (
        f"'{path}' has no sound track. A sound is read from sound files and from clips that have one. Name another "
        "file, or leave this modality out for this sample."
    )


def test_broken_numbers_are_refused() -> None:
    assert refusal(np.array([0.0, np.nan])) == (
        "The waveform has values that are not finite. Samples are numbers in -1..1. Remove NaN and infinity first."
    )


@pytest.mark.parametrize(
    ("source", "found"),
    [
        (None, "NoneType"),
        (np.zeros((1, 2, 3)), "ndarray of shape (1, 2, 3) and type float64"),
        (np.zeros(0), "ndarray of shape (0,) and type float64"),
    ],
)
def test_other_sources_are_refused(source: object, found: str) -> None:
    assert refusal(source) == (
        f"A sound came as {found}. Accepted: a path, an array (S,), (channels, S) or (S, channels) of floats in -1..1, "
        "int16, int32 or uint8, or a pair of it and its rate. Pass one of these."
    )


@pytest.mark.parametrize("num_samples", [1, 7, 500, 1023, 1024])
def test_a_blink_of_sound_at_another_rate_is_resampled(num_samples: int) -> None:
    sound = read_sound((np.full(num_samples, 0.25, np.float32), 16_000), sample_rate_hz=48_000)
    assert abs(len(sound.samples) - 3 * num_samples) <= 64
    assert bool(torch.isfinite(sound.samples).all())
    assert float(sound.samples.abs().max()) > 0.1


def test_a_part_named_in_the_path_is_read(tmp_path: Path) -> None:
    clip = write_coded(tmp_path / "a.mp4", "aac", tone(48_000, seconds=2.0), 48_000, with_pictures=True)
    heard = read_sound(f"{clip}#t=0.5,1.5", sample_rate_hz=RATE)
    assert (heard.samples.shape[0], heard.start_s) == (RATE, 0.5)
