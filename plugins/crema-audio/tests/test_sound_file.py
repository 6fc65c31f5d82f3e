"""Parts of long sound files: those of the whole file, without decoding what lies between."""

from __future__ import annotations

import tracemalloc
import wave
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
import torch

from crema_audio import sound as sound_module
from crema_audio.sound import open_sound, read_sound
from crema_core.errors import MediaError

HOUR_S, HOUR_HZ = 3600, 8_000
RATE = 16_000
SECONDS = 30.0


def sweep(rate: int, seconds: float) -> np.ndarray:
    """A tone that rises slowly, so that every moment sounds different."""
    instants = np.arange(int(rate * seconds)) / rate
    return (0.4 * np.sin(2 * np.pi * (200 + 20 * instants) * instants)).astype(np.float32)


def write(path: Path, codec: str, rate: int, *, seconds: float = SECONDS, pictures_s: float = 0.0) -> Path:
    samples = sweep(rate, seconds)
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=rate, layout="mono")
        if pictures_s:
            pictures = container.add_stream("mpeg4", rate=2)
            pictures.width = pictures.height = 32
            pictures.pix_fmt = "yuv420p"
            for _ in range(int(2 * pictures_s)):
                container.mux(pictures.encode(av.VideoFrame.from_ndarray(np.zeros((32, 32, 3), np.uint8))))
            container.mux(pictures.encode())
        resampler = av.AudioResampler(format=stream.format, layout="mono", rate=rate, frame_size=stream.frame_size or 0)
        frame = av.AudioFrame.from_ndarray(samples[None], format="fltp", layout="mono")
        frame.sample_rate = rate
        for out in [*resampler.resample(frame), *resampler.resample(None)]:
            container.mux(stream.encode(out))
        container.mux(stream.encode())
    return path


@pytest.fixture
def long(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every file of more than a second counts as long."""
    monkeypatch.setattr(sound_module, "LONG_S", 1.0)


# Codec, rate, samples by which a part may be shifted (Matroska tells times to the millisecond), difference allowed.
CODECS = {
    "a.wav": ("pcm_s16le", 16_000, 0, 1e-6),
    "b.wav": ("pcm_s16le", 8_000, 0, 1e-4),
    "c.wav": ("pcm_s16le", 44_100, 0, 0.02),  # no common grid: half a sample's shift
    "d.flac": ("flac", 16_000, 0, 1e-6),
    "e.mp3": ("libmp3lame", 16_000, 0, 0.02),
    "f.ogg": ("libopus", 48_000, 0, 0.02),
    "g.m4a": ("aac", 16_000, 0, 0.02),
    "h.mkv": ("aac", 48_000, 16, 0.06),
}


@pytest.mark.parametrize("name", CODECS)
@pytest.mark.usefixtures("long")
def test_a_part_is_what_the_whole_file_has_there(tmp_path: Path, name: str) -> None:
    codec, rate, shift, tolerance = CODECS[name]
    path = write(tmp_path / name, codec, rate)
    whole, first_s = sound_module.decode_whole(path, rate_hz=RATE)
    opened = open_sound(path, sample_rate_hz=RATE)
    offset = round(first_s * RATE)
    assert opened.num_samples == pytest.approx(len(whole) + offset, abs=RATE // 10)
    for low_s, high_s in ((0.0, 0.5), (0.3, 1.0), (12.0, 13.0), (29.0, 29.5)):
        low, high = round(low_s * RATE), round(high_s * RATE)
        part = opened.part(low, high)
        assert part.shape == (high - low,)
        around = torch.nn.functional.pad(whole, (offset + shift, shift))
        found = [part - around[low + own : high + own] for own in range(2 * shift + 1)]
        assert min(float(difference.abs().max()) for difference in found) <= tolerance


@pytest.mark.usefixtures("long")
def test_options_name_a_part_of_a_long_file(tmp_path: Path) -> None:
    path = write(tmp_path / "a.wav", "pcm_s16le", RATE)
    sound = read_sound(f"{path}#t=10,20", sample_rate_hz=RATE, start_s=2.0, end_s=3.0)
    assert sound.start_s == 12.0
    torch.testing.assert_close(
        sound.samples, torch.from_numpy(sweep(RATE, SECONDS)[12 * RATE : 13 * RATE]), atol=1e-4, rtol=0
    )
    with pytest.raises(MediaError) as caught:
        read_sound(path, sample_rate_hz=RATE, start_s=31.0)
    assert str(caught.value) == (
        f"'{path}' has no sound from 31 s on; it lasts 30 s. A part must overlap 0..30 s. Change start_s and end_s."
    )


@pytest.mark.usefixtures("long")
def test_a_track_shorter_than_its_pictures_ends_where_it_ends(tmp_path: Path) -> None:
    path = write(tmp_path / "a.mkv", "aac", RATE, seconds=5.0, pictures_s=40.0)
    assert open_sound(path, sample_rate_hz=RATE).num_samples == pytest.approx(5 * RATE, abs=RATE // 10)


def write_late(path: Path, *, sound_s: float, pictures_s: float, seconds: float = 4.0) -> Path:
    """A clip whose sound and pictures begin at different times; the sound is the sweep."""
    with av.open(str(path), "w") as container:
        sound = container.add_stream("pcm_s16le" if path.suffix == ".mkv" else "aac", rate=RATE, layout="mono")
        pictures = container.add_stream("mpeg4", rate=4)
        pictures.width = pictures.height = 32
        pictures.pix_fmt = "yuv420p"
        for number in range(int(4 * seconds)):
            frame = av.VideoFrame.from_ndarray(np.zeros((32, 32, 3), np.uint8))
            frame.pts, frame.time_base = round(4 * pictures_s) + number, Fraction(1, 4)
            container.mux(pictures.encode(frame))
        container.mux(pictures.encode())
        samples = sweep(RATE, seconds)
        for first in range(0, len(samples), 1024):
            piece = samples[None, first : first + 1024]
            coded = (piece * 32768).round().astype(np.int16) if path.suffix == ".mkv" else piece
            heard = av.AudioFrame.from_ndarray(coded, format="s16" if path.suffix == ".mkv" else "fltp", layout="mono")
            heard.sample_rate, heard.time_base = RATE, Fraction(1, RATE)
            heard.pts = round(sound_s * RATE) + first
            container.mux(sound.encode(heard))
        container.mux(sound.encode())
    with av.open(str(path)) as container:
        stream = container.streams.audio[0]
        assert float(stream.start_time * stream.time_base) == pytest.approx(sound_s, abs=0.1), "it begins late"
    return path


@pytest.mark.parametrize(("sound_s", "pictures_s"), [(1.5, 0.0), (6.5, 5.0)], ids=["from zero", "both late"])
def test_a_sound_track_that_begins_late_is_heard_where_it_is(tmp_path: Path, sound_s: float, pictures_s: float) -> None:
    path = write_late(tmp_path / "a.mkv", sound_s=sound_s, pictures_s=pictures_s)
    whole = torch.from_numpy(sweep(RATE, 4.0))
    sound = read_sound(path, sample_rate_hz=RATE)
    assert sound.start_s == pytest.approx(1.5, abs=2e-3)
    assert len(sound.samples) == len(whole)
    torch.testing.assert_close(sound.samples, whole, atol=1e-3, rtol=0)
    part = read_sound(path, sample_rate_hz=RATE, start_s=2.0, end_s=3.0)
    assert part.start_s == pytest.approx(2.0, abs=2e-3)
    assert len(part.samples) == RATE
    offset = RATE // 2 + round((1.5 - sound.start_s) * RATE)
    torch.testing.assert_close(part.samples, whole[offset : offset + RATE], atol=1e-3, rtol=0)
    early = read_sound(path, sample_rate_hz=RATE, start_s=0.5, end_s=2.0)
    assert early.start_s == sound.start_s, "there is nothing before it begins"
    assert len(early.samples) == pytest.approx(RATE // 2, abs=32)
    fragment = read_sound(f"{path}#t=2,5", sample_rate_hz=RATE, start_s=1.0)
    assert fragment.start_s == pytest.approx(3.0, abs=2e-3)
    assert len(fragment.samples) == 2 * RATE
    for start_s, end_s in ((0.0, 1.0), (5.6, None)):
        with pytest.raises(MediaError) as caught:
            read_sound(path, sample_rate_hz=RATE, start_s=start_s, end_s=end_s)
        assert f"A part must overlap {sound.start_s:g}..{sound.start_s + 4:g} s." in str(caught.value)
        assert f"it lasts {sound.start_s + 4:g} s" in str(caught.value)


@pytest.mark.usefixtures("long")
@pytest.mark.parametrize(("sound_s", "pictures_s"), [(1.5, 0.0), (6.5, 5.0)], ids=["from zero", "both late"])
def test_a_long_file_is_silent_until_its_sound_begins(tmp_path: Path, sound_s: float, pictures_s: float) -> None:
    path = write_late(tmp_path / "a.mkv", sound_s=sound_s, pictures_s=pictures_s)
    whole, first_s = sound_module.decode_whole(path, rate_hz=RATE)
    begin = round(first_s * RATE)
    assert begin == pytest.approx(1.5 * RATE, abs=32)
    opened = open_sound(path, sample_rate_hz=RATE)
    assert (opened.start_s, opened.num_samples) == (0.0, pytest.approx(5.5 * RATE, abs=64))
    part = opened.part(RATE, 2 * RATE)
    assert bool((part[: begin - RATE] == 0).all())
    torch.testing.assert_close(part[begin - RATE :], whole[: 2 * RATE - begin], atol=1e-3, rtol=0)
    later = opened.part(4 * RATE, 5 * RATE)
    torch.testing.assert_close(later, whole[4 * RATE - begin : 5 * RATE - begin], atol=1e-3, rtol=0)


@pytest.mark.usefixtures("long")
def test_a_container_that_seeks_too_far_is_decoded_from_its_beginning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(tmp_path / "a.wav", "pcm_s16le", RATE)
    file = sound_module.read_file(path, rate_hz=RATE)
    assert isinstance(file, sound_module.LongFile)
    expected = file.part(10 * RATE, 11 * RATE)
    seek = sound_module._seek
    monkeypatch.setattr(sound_module, "_seek", lambda container, sought_s: seek(container, sought_s + 5.0))
    assert torch.equal(file.part(10 * RATE, 11 * RATE), expected)


def test_a_file_that_ends_before_it_says_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "a.wav", "pcm_s16le", RATE, seconds=4.0)
    with pytest.raises(MediaError) as caught:
        sound_module.LongFile(path, RATE, 10 * RATE).part(3 * RATE, 5 * RATE)
    assert str(caught.value) == (
        f"'{path}' cannot be read: it announces 10 s and holds 4 s. A sound is read from "
        f"{', '.join(sound_module.SOUND_SUFFIXES)}. Write or download the file again."
    )


@pytest.fixture(scope="module")
def hour(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One hour at 8 kHz; second n is a tone of 100 + n % 1000 Hz."""
    path = tmp_path_factory.mktemp("hour") / "hour.wav"
    instants = np.arange(HOUR_HZ) / HOUR_HZ
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(HOUR_HZ)
        for second in range(HOUR_S):
            tone = np.sin(2 * np.pi * (100 + second % 1000) * instants)
            file.writeframesraw((8000 * tone).astype("<i2").tobytes())
    return path


def loudest_hz(samples: torch.Tensor) -> int:
    return round(float(torch.fft.rfft(samples).abs().argmax()) * RATE / len(samples))


def test_windows_of_an_hour_are_read_alone(hour: Path) -> None:
    tracemalloc.start()
    sound = open_sound(hour, sample_rate_hz=RATE)
    windows = [sound.part(second * RATE, (second + 1) * RATE) for second in (0, 1800, 3599)]
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert sound.num_samples == HOUR_S * RATE
    assert [loudest_hz(window) for window in windows] == [100, 900, 699]
    assert peak < 2_000_000, "the whole would be 230 MB"
