"""Sound is heard when its time stamps say, whatever was lost, joined or changed, whole and in parts of long files."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import torch

from crema_audio import sound as sound_module
from crema_audio.sound import open_sound, read_sound
from crema_core.data import media_clock
from crema_core.data.media_clock import Decoder
from crema_core.errors import MediaError

RATE = 16_000
EVENT = 0.9
SECONDS = 4.0


@pytest.fixture
def long(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every file of more than a second counts as long."""
    monkeypatch.setattr(sound_module, "LONG_S", 1.0)


def tone(seconds: float = SECONDS, rate: int = RATE) -> np.ndarray:
    """A quiet tone that rises, with a loud moment in every second, each higher than the one before."""
    instants = np.arange(round(rate * seconds)) / rate
    quiet = 0.1 * np.sin(2 * np.pi * (200 + 50 * instants) * instants)
    loud = EVENT * np.sin(2 * np.pi * (600 + 300 * np.floor(instants)) * instants)
    return np.where((instants % 1 > 0.5) & (instants % 1 < 0.52), loud, quiet).astype(np.float32)


def write(
    path: Path,
    codec: str,
    samples: np.ndarray,
    *,
    rate: int = RATE,
    channels: int = 1,
    is_lost: Callable[[float], bool] = lambda at_s: False,
    **options: str,
) -> Path:
    """Write a sound; packets that begin at a lost time are left out."""
    layout = {1: "mono", 2: "stereo"}[channels]
    with av.open(str(path), "w", options=options) as container:
        stream = container.add_stream(codec, rate=rate, layout=layout)
        resampler = av.AudioResampler(
            format=stream.format, layout=layout, rate=rate, frame_size=stream.frame_size or 1024
        )
        frame = av.AudioFrame.from_ndarray(np.repeat(samples[None], channels, 0), format="fltp", layout=layout)
        frame.sample_rate, frame.time_base, frame.pts = rate, Fraction(1, rate), 0
        for out in [*resampler.resample(frame), *resampler.resample(None)]:
            for packet in stream.encode(out):
                if not is_lost(float(packet.pts * packet.time_base)):
                    container.mux(packet)
        container.mux(stream.encode())
    return path


def joined(path: Path, *parts: Path) -> Path:
    path.write_bytes(b"".join(part.read_bytes() for part in parts))
    return path


def set_pre_skip(path: Path, num_samples: int) -> None:
    """Change what the header of an Opus file in Ogg says the decoder leaves out, and the checksum of its page."""
    raw = bytearray(path.read_bytes())
    at, end = raw.index(b"OpusHead") + 10, raw.index(b"OggS", 4)
    raw[at : at + 2] = num_samples.to_bytes(2, "little")
    raw[22:26] = bytes(4)
    checksum = 0
    for byte in raw[:end]:  # RFC 3533: polynomial 0x04c11db7, neither reflected nor inverted
        checksum ^= byte << 24
        for _ in range(8):
            checksum = (checksum << 1 ^ (0x04C11DB7 if checksum >> 31 else 0)) & 0xFFFFFFFF
    raw[22:26] = checksum.to_bytes(4, "little")
    path.write_bytes(raw)


def loud_moments(samples: torch.Tensor, start_s: float = 0.0) -> list[float]:
    """Return when loud moments begin, to a hundredth of a second; the first sample is heard at `start_s`."""
    loud = samples[: len(samples) // 160 * 160].reshape(-1, 160).abs().amax(1) > 0.4
    return [
        round(start_s + number / 100, 2) for number in range(len(loud)) if loud[number] and not loud[max(number - 1, 0)]
    ]


def gap(at_s: float) -> bool:
    return 1 <= at_s < 2


@pytest.mark.usefixtures("long")
def test_a_gap_is_silent_to_the_sample(tmp_path: Path) -> None:
    path = write(tmp_path / "a.mkv", "pcm_s16le", tone(), is_lost=gap)
    whole, first_s = sound_module.decode_whole(path, rate_hz=RATE)
    silent = [number for number in range(RATE, len(whole) - 100) if not whole[number : number + 100].any()]
    low, high = silent[0], silent[-1] + 100
    assert (first_s, len(whole)) == (0.0, len(tone()))
    assert (low / RATE, high / RATE) == pytest.approx((1.024, 2.048), abs=2e-3)
    expected = torch.from_numpy(tone())
    expected[low:high] = 0
    torch.testing.assert_close(whole, expected, atol=1e-3, rtol=0)
    parts = open_sound(path, sample_rate_hz=RATE)
    for begin_s, end_s in ((0.0, 4.0), (0.9, 1.5), (1.2, 1.9), (1.5, 2.5), (2.4, 2.6)):
        begin, end = round(begin_s * RATE), round(end_s * RATE)
        torch.testing.assert_close(parts.part(begin, end), expected[begin:end], atol=1e-3, rtol=0)


@pytest.mark.parametrize(
    ("name", "codec", "rate"),
    [
        ("a.mkv", "aac", RATE), ("a.webm", "libopus", 48_000), ("a.ogg", "libopus", 48_000), ("a.m4a", "aac", 44_100),
        ("a.ts", "aac", 48_000), ("a.mkv", "libmp3lame", 44_100), ("a.mkv", "flac", 44_100),
    ],
)  # fmt: skip
def test_what_follows_a_gap_is_heard_where_it_was(tmp_path: Path, name: str, codec: str, rate: int) -> None:
    path = write(tmp_path / name, codec, tone(rate=rate), rate=rate, is_lost=gap)
    sound = read_sound(path, sample_rate_hz=RATE)
    assert loud_moments(*sound) == pytest.approx([0.5, 2.5, 3.5], abs=0.03)
    assert sound.start_s + len(sound.samples) / RATE == pytest.approx(SECONDS, abs=0.1)
    part = read_sound(f"{path}#t=2.3,2.9", sample_rate_hz=RATE)
    assert loud_moments(*part) == pytest.approx([2.5], abs=0.03)


@pytest.mark.usefixtures("long")
def test_parts_of_an_opus_file_are_heard_whatever_its_decoder_leaves_out_at_first(tmp_path: Path) -> None:
    path = write(tmp_path / "a.ogg", "libopus", tone(6, rate=48_000), rate=48_000)
    set_pre_skip(path, 65_535)
    whole, _ = sound_module.decode_whole(path, rate_hz=RATE)
    assert len(whole) / RATE == pytest.approx(6 - 65_535 / 48_000, abs=0.05)
    parts = open_sound(path, sample_rate_hz=RATE)
    for begin in range(0, parts.num_samples, round(0.3 * RATE)):
        end = min(begin + 800, parts.num_samples)
        torch.testing.assert_close(parts.part(begin, end), whole[begin:end], atol=0.01, rtol=0)


@pytest.mark.parametrize("rate", [0, 1, 99, 10_000_001, 0x20_00_80_00])
def test_a_rate_of_no_sound_is_refused_before_it_is_resampled(tmp_path: Path, rate: int) -> None:
    path = write(tmp_path / "a.wav", "pcm_s16le", tone(1.0), rate=RATE)
    raw = bytearray(path.read_bytes())
    raw[24:28] = rate.to_bytes(4, "little")
    path.write_bytes(raw)
    with pytest.raises(MediaError, match=r"samples a second, which is no rate of a sound|FFmpeg reports|cannot"):
        read_sound(path, sample_rate_hz=RATE)


@pytest.mark.parametrize("num_samples", [1, 5, 40])
def test_a_file_of_few_samples_is_read(tmp_path: Path, num_samples: int) -> None:
    path = write(tmp_path / "a.wav", "pcm_s16le", np.full(num_samples, 0.5, np.float32), rate=8_000)
    samples, start_s = read_sound(path, sample_rate_hz=RATE)
    assert (len(samples), start_s) == (2 * num_samples, 0.0)
    assert samples[num_samples // 2].item() == pytest.approx(0.5, abs=0.1)


@pytest.mark.parametrize("name", ["a.wav", "b.ogg", "c.flac", "d.ts", "e.m4a", "f.mp3", "g.aac", "short.wav"])
def test_a_file_is_opened_and_decoded_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    codecs = {".wav": "pcm_s16le", ".ogg": "libopus", ".flac": "flac", ".mp3": "libmp3lame"}
    wave = tone(1.0) if name != "short.wav" else np.full(5, 0.5, np.float32)
    rate = 48_000 if name == "b.ogg" else RATE if name != "short.wav" else 8_000
    path = write(tmp_path / name, codecs.get(Path(name).suffix, "aac"), wave, rate=rate)
    opened: list[str] = []
    given = av.open

    def noted(file: str, **more: Any) -> Any:
        opened.append(file)
        return given(file, **more)

    monkeypatch.setattr(av, "open", noted)
    assert len(read_sound(path, sample_rate_hz=RATE).samples) > 0
    assert opened == [str(path)]


def test_a_file_that_turns_out_to_be_long_is_not_decoded_as_a_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Recordings that were joined announce the length of one."""
    path = joined(tmp_path / "four.ts", *[write(tmp_path / "one.ts", "aac", tone(), rate=RATE)] * 4)
    monkeypatch.setattr(sound_module, "LONG_S", 6.0)
    decoded: list[int] = []
    given = Decoder.frames
    monkeypatch.setattr(Decoder, "frames", lambda self, packet: decoded.append(packet.size) or given(self, packet))
    long = sound_module.read_file(path, rate_hz=RATE)
    assert isinstance(long, sound_module.LongFile)
    assert long.num_samples == pytest.approx(4 * SECONDS * RATE, abs=RATE // 2)
    assert len(decoded) < 7.0 * RATE / 1024


def test_many_lost_packets_do_not_add_up(tmp_path: Path) -> None:
    path = write(
        tmp_path / "a.mkv", "aac", tone(), is_lost=lambda at_s: at_s > 0.1 and (at_s % 1 > 0.85 or at_s % 1 < 0.2)
    )
    assert loud_moments(*read_sound(path, sample_rate_hz=RATE)) == pytest.approx([0.5, 1.5, 2.5, 3.5], abs=0.03)


CHANGES = {
    "mono and stereo.mp3": ("libmp3lame", (44_100, 1), (44_100, 2)),
    "stereo and mono.mp3": ("libmp3lame", (44_100, 2), (44_100, 1)),
    "faster.mp3": ("libmp3lame", (16_000, 1), (44_100, 1)),
    "slower.mp3": ("libmp3lame", (44_100, 2), (16_000, 1)),
    "faster.aac": ("aac", (16_000, 1), (48_000, 2)),
    "slower.ts": ("aac", (48_000, 2), (32_000, 1)),
    "faster.ts": ("aac", (32_000, 1), (48_000, 2)),
    "same.ts": ("aac", (48_000, 1), (48_000, 1)),
    "same.ogg": ("libopus", (48_000, 1), (48_000, 1)),
    "same.flac": ("flac", (44_100, 1), (44_100, 1)),
}


@pytest.mark.parametrize("name", CHANGES)
@pytest.mark.parametrize("is_long", [False, True], ids=["whole", "in parts"])
def test_what_is_joined_follows_and_keeps_its_pitch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, is_long: bool
) -> None:
    codec, *parts = CHANGES[name]
    options = {"write_xing": "0", "id3v2_version": "0"} if name.endswith(".mp3") else {}
    paths = [
        write(
            tmp_path / f"{number}{Path(name).suffix}", codec, tone(2.0, rate), rate=rate, channels=channels, **options
        )
        for number, (rate, channels) in enumerate(parts)
    ]
    path = joined(tmp_path / name, *paths)
    if is_long:
        monkeypatch.setattr(sound_module, "LONG_S", 1.0)
    opened = open_sound(path, sample_rate_hz=RATE)
    edges = [*range(0, opened.num_samples, RATE), opened.num_samples]
    samples = torch.cat([opened.part(low, high) for low, high in itertools.pairwise(edges)])
    moments = loud_moments(samples)
    assert moments == pytest.approx([0.5, 1.5, 2.5, 3.5], abs=0.2), "encoders put up to 0.1 s around each part"
    for moment, hertz in zip(moments, (600, 900, 600, 900), strict=True):
        heard = samples[round((moment + 0.004) * RATE) :][:192] * torch.hann_window(192)
        peak = float(torch.fft.rfft(heard, 4096).abs().argmax()) * RATE / 4096
        assert peak == pytest.approx(hertz, abs=60)


@pytest.mark.usefixtures("long")
def test_a_part_of_what_is_joined_decodes_little(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one = write(tmp_path / "one.ts", "aac", tone(8.0), rate=RATE)
    path = joined(tmp_path / "a.ts", one, one)
    opened = open_sound(path, sample_rate_hz=RATE)
    decoded, frames = [], media_clock.Decoder.frames

    def count(self: media_clock.Decoder, packet: av.Packet) -> list[av.AudioFrame]:
        decoded.append(packet)
        return frames(self, packet)

    monkeypatch.setattr(media_clock.Decoder, "frames", count)
    assert loud_moments(opened.part(9 * RATE, 10 * RATE)) == pytest.approx([0.5], abs=0.2)
    assert len(decoded) < 4 * RATE / 1024, "a second, and two before it"


def test_a_sound_that_lacks_its_end_is_told_from_one_cut_out_without_encoding(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = write(tmp_path / "a.flac", "flac", tone())
    raw = path.read_bytes()
    path.write_bytes(raw[: len(raw) * 6 // 10])
    with pytest.raises(MediaError, match=r"cannot be read: it is cut short, 1\.944 of 4 s\. A sound"):
        read_sound(path, sample_rate_hz=RATE)
    whole = bytearray(raw)
    count = round(5 * SECONDS * RATE)
    whole[22:26] = count.to_bytes(4)  # samples of the stream, as FLAC's header counts them
    path.write_bytes(whole)
    assert len(read_sound(path, sample_rate_hz=RATE).samples) == len(tone())
    assert caplog.messages == [f"'{path}' announces 20 s and holds 4 s. What it holds is read."]


@pytest.mark.parametrize(
    ("whole", "samples"), [(10**6, None), (0, 0), (2**32 - 1, 2**32 - 1), (99, None), (None, 10**6)]
)
def test_a_wave_file_whose_size_is_wrong_is_read(tmp_path: Path, whole: int | None, samples: int | None) -> None:
    path = write(tmp_path / "a.wav", "pcm_s16le", tone())
    raw = bytearray(path.read_bytes())
    for at, value in ((4, whole), (raw.find(b"data") + 4, samples)):
        if value is not None:
            raw[at : at + 4] = value.to_bytes(4, "little")
    path.write_bytes(raw)
    sound = read_sound(path, sample_rate_hz=RATE)
    torch.testing.assert_close(sound.samples, torch.from_numpy(tone()), atol=1e-3, rtol=0)
