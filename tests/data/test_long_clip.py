"""A clip of ten minutes: only the frames that are wanted are decoded, and nothing else stays in memory."""

from __future__ import annotations

from pathlib import Path

import av
import numpy as np
import psutil
import pytest

from crema_core.data import clips
from crema_core.data.clips import read_clip
from crema_core.data.images import read_frames

SECONDS, RATE, GROUP = 600, 10, 50
WIDTH, HEIGHT = 96, 72
NUM_FRAMES = SECONDS * RATE


def frame_of(number: int) -> av.VideoFrame:
    """A grey frame that gets brighter, one level in a minute and a half per colour."""
    level = 20 + number * 200 // NUM_FRAMES
    frame = av.VideoFrame.from_ndarray(np.full((HEIGHT, WIDTH, 3), level, np.uint8), format="rgb24")
    frame.pts = number
    return frame


def write(path: Path, codec: str, pixels: str) -> Path:
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=RATE, options={"g": str(GROUP), "threads": "1"})
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, pixels
        for number in range(NUM_FRAMES):
            container.mux(stream.encode(frame_of(number)))
        container.mux(stream.encode())
    return path


@pytest.fixture(scope="module")
def coded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Tiny, a key frame every five seconds."""
    return write(tmp_path_factory.mktemp("coded") / "long.mp4", "mpeg4", "yuv420p")


@pytest.fixture(scope="module")
def raw(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same without compression: 6000 packets of 21 KB, 124 MB."""
    return write(tmp_path_factory.mktemp("raw") / "long.avi", "rawvideo", "bgr24")


def test_a_few_frames_of_ten_minutes_are_decoded_and_no_others_kept(
    coded: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept: list[float] = []
    decoded: list[int] = []
    upright, stamp = clips._upright, clips._stamp

    def count_kept(frame: av.VideoFrame) -> np.ndarray:
        kept.append(frame.time)
        return upright(frame)

    def count_decoded(item: av.Packet[av.VideoStream] | av.VideoFrame) -> int | None:
        if isinstance(item, av.VideoFrame):
            decoded.append(1)
        return stamp(item)

    monkeypatch.setattr(clips, "_upright", count_kept)
    monkeypatch.setattr(clips, "_stamp", count_decoded)
    clip = read_clip(coded, num_frames=8)
    assert clip.frames.shape == (8, 3, HEIGHT, WIDTH)
    assert kept == [37.5 + 75 * number for number in range(8)]
    assert len(decoded) <= 8 * GROUP
    levels = clip.frames.float().mean(dim=(1, 2, 3)).round().tolist()
    assert levels == pytest.approx([32 + 25 * number for number in range(8)], abs=2)


def test_frames_per_second_of_ten_minutes_are_bounded_by_their_number(coded: Path) -> None:
    clip = read_frames(coded, num_frames=16, fps=5.0)
    assert clip.frames.shape == (16, 3, HEIGHT, WIDTH)


def test_packets_are_not_kept_while_the_file_is_looked_through(raw: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    process, stamp = psutil.Process(), clips._stamp
    read_clip(raw, num_frames=1)  # what is loaded once
    before, after = process.memory_info().rss, [0]
    calls = iter(range(10 * NUM_FRAMES))

    def measure(item: av.Packet[av.VideoStream] | av.VideoFrame) -> int | None:
        if next(calls) % 500 == 0:
            after.append(process.memory_info().rss)
        return stamp(item)

    monkeypatch.setattr(clips, "_stamp", measure)
    assert read_clip(raw, num_frames=4).frames.shape == (4, 3, HEIGHT, WIDTH)
    assert len(after) > NUM_FRAMES // 500
    assert max(after) - before < 30e6, "the packets are 124 MB"
