"""Sounds that announce more than they hold."""

from __future__ import annotations

import struct
import wave
from pathlib import Path

import pytest

from crema_audio.sound import read_sound
from crema_core.data.limits import MAX_BYTES
from crema_core.errors import MediaError


def caf(frames_per_packet: int, seconds: float = 0.1) -> bytes:
    """Return a sound of zeros in Apple's container, whose packets hold one sample each."""
    data = bytes(4) + bytes(2 * int(16_000 * seconds))
    desc = struct.pack(">d4sIIIII", 16_000, b"lpcm", 0, 2, frames_per_packet, 1, 16)
    return (
        b"caff" + struct.pack(">HH", 1, 0) + b"desc" + struct.pack(">q", len(desc)) + desc
        + b"data" + struct.pack(">q", len(data)) + data
    )  # fmt: skip


@pytest.mark.parametrize("frames", [2, 4097, 1_376_257])
def test_packets_that_announce_more_samples_than_they_hold_are_damage(tmp_path: Path, frames: int) -> None:
    (tmp_path / "a.caf").write_bytes(caf(1))
    assert len(read_sound(tmp_path / "a.caf", sample_rate_hz=16_000).samples) == 1600
    (tmp_path / "a.caf").write_bytes(caf(frames))
    with pytest.raises(MediaError, match=f"its packets announce {frames:,} samples each and hold 1"):
        read_sound(tmp_path / "a.caf", sample_rate_hz=16_000)


def test_a_sound_is_bounded_while_it_is_decoded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.caf").write_bytes(caf(1))
    monkeypatch.setenv(MAX_BYTES, "6400")
    assert len(read_sound(tmp_path / "a.caf", sample_rate_hz=16_000).samples) == 1600
    monkeypatch.setenv(MAX_BYTES, "6300")
    with pytest.raises(MediaError, match=r"a.caf' holds 1,600 samples or more at the rate they are read in"):
        read_sound(tmp_path / "a.caf", sample_rate_hz=16_000)


def test_nine_channels_are_refused_before_pyav_crashes_on_them(tmp_path: Path) -> None:
    with wave.open(str(tmp_path / "a.wav"), "wb") as file:
        file.setnchannels(9)
        file.setsampwidth(2)
        file.setframerate(16_000)
        file.writeframes(bytes(18 * 1600))
    with pytest.raises(MediaError, match="The sound has 9 channels"):
        read_sound(tmp_path / "a.wav", sample_rate_hz=16_000)
