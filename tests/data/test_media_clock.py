"""One ascending clock for the pictures and the sound of a file."""

from __future__ import annotations

import os
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from crema_core.data.clips import length_s, read_chosen, read_clip
from crema_core.data.media_clock import Decoder, MediaClock, open_container, origin_s
from crema_core.errors import MediaError

RATE, SECONDS = 48_000, 2


def write(path: Path, *, begins_s: float = 0.0) -> Path:
    """Write a transport stream with pictures and sound."""
    with av.open(str(path), "w") as container:
        pictures = container.add_stream("mpeg2video", rate=25)
        pictures.width = pictures.height = 32
        sound = container.add_stream("aac", rate=RATE, layout="mono")
        for number in range(25 * SECONDS):
            frame = av.VideoFrame.from_ndarray(np.full((32, 32, 3), 4 * number, np.uint8), format="rgb24")
            frame.pts, frame.time_base = round(25 * begins_s) + number, Fraction(1, 25)
            container.mux(pictures.encode(frame))
        container.mux(pictures.encode())
        for first in range(0, RATE * SECONDS, 1024):
            heard = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), "fltp", "mono")
            heard.sample_rate, heard.time_base = RATE, Fraction(1, RATE)
            heard.pts = round(RATE * begins_s) + first
            container.mux(sound.encode(heard))
        container.mux(sound.encode())
    return path


def stamps(path: Path) -> dict[str, list[float]]:
    """Return the times at which packets are decoded, by kind of stream."""
    found: dict[str, list[float]] = {"video": [], "audio": []}
    with open_container(path, what="a clip", suffixes=(".ts",)) as container:
        clock = MediaClock(container, container.streams.video[0])
        for packet in container.demux(clock.streams):
            clock.set(packet)
            if packet.dts is not None:
                found[packet.stream.type].append(float(packet.dts * packet.time_base) - origin_s(container))
    return found


@pytest.mark.parametrize("begins_s", [0.0, 1.0, 600.0, 6000.0])
def test_what_is_joined_follows_for_pictures_and_sound_alike(tmp_path: Path, begins_s: float) -> None:
    """The second part begins earlier, at the same time, or far behind."""
    one, two = write(tmp_path / "one.ts", begins_s=2.0), write(tmp_path / "two.ts", begins_s=begins_s)
    path = tmp_path / "joined.ts"
    path.write_bytes(one.read_bytes() + two.read_bytes())
    found, first = stamps(path), stamps(one)
    for kind, own in found.items():
        assert own == sorted(own)
        second = np.array(own[len(first[kind]) :])
        assert second - second[0] == pytest.approx(np.array(first[kind]) - first[kind][0], abs=1e-3), (
            "nothing else moves"
        )
        assert own[-1] == pytest.approx(2 * SECONDS, abs=0.2)
    apart = found["video"][len(first["video"])] - found["audio"][len(first["audio"])]
    assert apart == pytest.approx(first["video"][0] - first["audio"][0], abs=0.05), "they stay together"
    assert length_s(str(path)) == pytest.approx(2 * SECONDS, abs=0.2)
    assert length_s(str(one)) == pytest.approx(SECONDS, abs=0.1)


def test_a_pause_of_some_seconds_is_kept(tmp_path: Path) -> None:
    one, two = write(tmp_path / "one.ts"), write(tmp_path / "two.ts", begins_s=SECONDS + 5)
    path = tmp_path / "joined.ts"
    path.write_bytes(one.read_bytes() + two.read_bytes())
    assert stamps(path)["video"][-1] == pytest.approx(2 * SECONDS + 5, abs=0.2)


def test_what_cannot_be_decoded_is_damage_in_files_and_left_out_in_streams(tmp_path: Path) -> None:
    path = tmp_path / "a.mkv"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libvpx", rate=25, options={"g": "50"})
        stream.width = stream.height = 32
        for number in range(50):
            pixels = np.full((32, 32, 3), 4 * number, np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        container.mux(stream.encode())

    def decode(container: av.container.InputContainer, decoder: Decoder) -> int:
        count = 0
        for number, packet in enumerate(container.demux(video=0)):
            if number == 20:
                noise = av.Packet(b"\xff")  # shorter than any frame
                noise.stream, noise.pts, noise.dts = packet.stream, packet.pts, packet.dts
                count += len(decoder.frames(noise))
            count += len(decoder.frames(packet))
        return count

    with av.open(str(path)) as container, pytest.raises(av.error.InvalidDataError):
        decode(container, Decoder(container))
    with av.open(str(path)) as container:
        decoder = Decoder(container)
        decoder._is_lossy = True
        assert (decode(container, decoder), decoder.num_lost) == (50, 1)


def test_a_clip_whose_packets_are_damaged_says_so(tmp_path: Path) -> None:
    path = write(tmp_path / "a.ts")
    path.write_bytes(path.read_bytes()[: 188 * 2] + os.urandom(188) * 40)
    with pytest.raises(MediaError, match="cannot be read"):
        read_clip(path, num_frames=2)


def test_lost_packets_of_a_recording_leave_the_others_where_they_were(tmp_path: Path) -> None:
    """Every picture that decodes keeps its time, here one level in 4 a frame."""
    path = write(tmp_path / "a.ts")
    raw = path.read_bytes()
    pieces = [raw[at : at + 188] for at in range(0, len(raw), 188)]
    path.write_bytes(b"".join(own for number, own in enumerate(pieces) if number < 10 or number % 23))
    seen: list[list[float]] = []
    frames = read_chosen(path, lambda own: seen.append(own.starts_s) or list(range(len(own.starts_s))))
    assert seen[-1] == sorted(seen[-1])
    assert len(frames) == len(seen[-1]) > 25
    own = frames.float().mean(dim=(1, 2, 3)) / 4
    right = [abs(float(level) - 25 * (start - seen[-1][0])) < 1.5 for level, start in zip(own, seen[-1], strict=True)]
    assert np.mean(right) > 0.6
