"""Decoding clips."""

from __future__ import annotations

import gc
import multiprocessing
import struct
from collections.abc import Container, Sequence
from itertools import accumulate, pairwise
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from crema_core.data import clips
from crema_core.data.clips import read_clip
from crema_core.data.media import CLIP_SUFFIXES
from crema_core.data.sampling import rate_indices
from crema_core.errors import MediaError
from tests.support.media_files import edited

ACCEPTED = f"A clip is read from {', '.join(CLIP_SUFFIXES)}."


def write_clip(
    path: Path,
    *,
    num_frames: int = 16,
    rate: int = 8,
    codec: str = "libx264",
    stamps: Sequence[int] = (),
    size: tuple[int, int] = (48, 32),
    **options: str,
) -> Path:
    """Write frames whose grey level is 10 times their number; `stamps` are presentation times in 1/rate seconds."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=rate, options={"threads": "1", **options})
        stream.width, stream.height = size
        stream.pix_fmt = "rgb8" if codec == "gif" else "yuv420p"
        for number in range(num_frames):
            frame = av.VideoFrame.from_ndarray(np.full((size[1], size[0], 3), 10 * number, np.uint8), format="rgb24")
            frame.pts = stamps[number] if stamps else number
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def levels(frames: torch.Tensor) -> list[int]:
    return [round(float(frame.float().mean()) / 10) for frame in frames]


def test_the_middle_frames_of_equal_segments_are_read(tmp_path: Path) -> None:
    clip = read_clip(write_clip(tmp_path / "a.mp4"), num_frames=4)
    assert clip.frames.shape == (4, 3, 32, 48)
    assert clip.frames.dtype == torch.uint8
    assert levels(clip.frames) == [2, 6, 10, 14]
    assert clip.times is not None
    assert clip.times.tolist() == [[0.0, 0.5], [0.5, 1.0], [1.0, 1.5], [1.5, 2.0]]


@pytest.mark.parametrize(
    ("name", "codec", "options"),
    [
        ("a.mp4", "libx264", {"g": "4"}),
        ("a.mp4", "libx264", {"bf": "3", "g": "250"}),
        ("a.mkv", "libx264", {"bf": "2", "g": "8"}),
        ("a.webm", "libvpx", {}),
        ("a.avi", "mpeg4", {}),
        ("a.ts", "mpeg2video", {}),
        ("a.mov", "mpeg4", {}),
    ],
)
@pytest.mark.parametrize("num_frames", [1, 3, 5, 16])
def test_every_container_gives_the_same_frames(
    tmp_path: Path, name: str, codec: str, options: dict[str, str], num_frames: int
) -> None:
    rate = 25 if codec == "mpeg2video" else 8
    path = write_clip(tmp_path / name, codec=codec, rate=rate, **options)
    clip = read_clip(path, num_frames=num_frames)
    expected = [(16 * i // num_frames + 16 * (i + 1) // num_frames) // 2 for i in range(num_frames)]
    assert levels(clip.frames) == expected
    assert clip.times is not None
    assert float(clip.times[0, 0]) == pytest.approx(0, abs=0.1)
    assert float(clip.times[-1, 1]) == pytest.approx(16 / rate, abs=0.1)


def test_an_animated_gif_is_a_clip(tmp_path: Path) -> None:
    clip = read_clip(write_clip(tmp_path / "a.gif", codec="gif", rate=10), num_frames=2)
    assert clip.frames.shape == (2, 3, 32, 48)
    assert bool(clip.frames[0].float().mean() < clip.frames[1].float().mean())


def test_frames_of_a_short_clip_repeat(tmp_path: Path) -> None:
    clip = read_clip(write_clip(tmp_path / "a.mp4", num_frames=2), num_frames=4)
    assert levels(clip.frames) == [0, 0, 1, 1]
    assert clip.times is not None
    assert clip.times.tolist() == [[0.0, 0.125], [0.0, 0.125], [0.125, 0.25], [0.125, 0.25]]


def test_a_part_keeps_the_clock_of_the_file(tmp_path: Path) -> None:
    clip = read_clip(write_clip(tmp_path / "a.mp4"), num_frames=2, start_s=1.0, end_s=1.5)
    assert levels(clip.frames) == [9, 11]
    assert clip.times is not None
    assert clip.times.tolist() == [[1.0, 1.25], [1.25, 1.5]]


def test_a_part_shorter_than_a_frame_shows_the_frame_on_screen(tmp_path: Path) -> None:
    clip = read_clip(write_clip(tmp_path / "a.mp4"), num_frames=1, start_s=0.55, end_s=0.56)
    assert levels(clip.frames) == [4]


def test_frames_at_uneven_times_are_chosen_by_number_and_keep_their_times(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "a.mkv", num_frames=5, stamps=(0, 1, 3, 5, 14))
    clip = read_clip(path, num_frames=5)
    assert levels(clip.frames) == [0, 1, 2, 3, 4]
    assert clip.times is not None
    assert clip.times[:, 0].tolist() == pytest.approx([0, 0.125, 0.375, 0.625, 1.75], abs=1e-3)
    # Nothing follows the last frame: it is on screen for the median time between two.
    assert float(clip.times[-1, 1]) == pytest.approx(2.0, abs=1e-3)


def test_a_clip_of_one_frame_lasts_as_long_as_the_file_states(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "a.mkv", num_frames=1, codec="rawvideo")
    stated = read_clip(path, num_frames=1)
    raw = bytearray(path.read_bytes())
    at = raw.index(b"\x23\xe3\x83\x84")  # Matroska's DefaultDuration: its name, 4 for its length, its value
    raw[at : at + 8] = b"\xec\x86" + bytes(6)  # a Void element of the same size
    path.write_bytes(raw)
    unknown = read_clip(path, num_frames=1)
    assert stated.times is not None
    assert unknown.times is not None
    assert stated.times.tolist() == [[0.0, 0.125]]
    assert unknown.times.tolist() == [[0.0, pytest.approx(0.001)]]  # one tick of the file's clock


def test_a_part_beyond_the_end_is_refused(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "a.mp4")
    with pytest.raises(MediaError) as caught:
        read_clip(path, num_frames=2, start_s=5.0, end_s=6.0)
    assert str(caught.value) == (
        f"'{path}' has no frame between 5 s and 6 s; it lasts 2 s. A part must overlap 0..2 s. "
        "Change start_s and end_s."
    )


def test_bytes_that_are_no_clip_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    path.write_bytes(b"no clip at all" * 100)
    with pytest.raises(MediaError) as caught:
        read_clip(path, num_frames=4)
    assert str(caught.value) == (
        f"'{path}' cannot be read: FFmpeg reports 'Invalid data found when processing input'. {ACCEPTED} "
        "Write or download the file again."
    )


def test_a_clip_cut_short_is_refused(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "a.mp4", movflags="faststart")
    raw = path.read_bytes()
    path.write_bytes(raw[: len(raw) // 2])
    with pytest.raises(MediaError, match="cannot be read"):
        read_clip(path, num_frames=4)


def test_sound_without_pictures_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=16000, layout="mono")
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
        frame.sample_rate = 16000
        container.mux(stream.encode(frame))
        container.mux(stream.encode())
    with pytest.raises(MediaError) as caught:
        read_clip(path, num_frames=4)
    assert str(caught.value) == (
        f"'{path}' has no picture stream, only sound. A clip needs pictures. Name a file that has them, or give this "
        "file to a modality that listens."
    )


def test_frames_at_a_rate_go_by_time_where_frames_are_uneven(tmp_path: Path) -> None:
    """Ten frames in the first second, then one that stays for two seconds."""
    path = write_clip(tmp_path / "a.mp4", num_frames=11, rate=10, stamps=[*range(10), 30])
    clip = read_clip(path, num_frames=99, fps=2)
    assert levels(clip.frames)[:6] == [2, 7, 9, 9, 9, 9]
    assert clip.times is not None
    assert clip.times[:3].tolist() == [[0.0, 0.5], [0.5, 1.0], [1.0, 1.5]]


def test_more_frames_at_a_rate_than_wanted_are_sampled_evenly(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "a.mp4", rate=10)
    assert levels(read_clip(path, num_frames=4, fps=10).frames) == levels(read_clip(path, num_frames=4).frames)
    assert len(read_clip(path, num_frames=16, fps=10).frames) == 16


def test_a_part_is_sampled_at_a_rate(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "a.mp4", rate=10)
    clip = read_clip(path, num_frames=99, fps=5, start_s=0.4, end_s=1.0)
    assert levels(clip.frames) == [5, 7, 9]
    assert clip.times is not None
    torch.testing.assert_close(clip.times, torch.tensor([[0.4, 0.6], [0.6, 0.8], [0.8, 1.0]]))


def with_matrix(path: Path, turn: tuple[int, ...]) -> None:
    """Write a display matrix a, b, c, d into an MP4 file."""
    raw = bytearray(path.read_bytes())
    at = raw.find(b"tkhd") + 44
    a, b, c, d = (value << 16 for value in turn)
    raw[at : at + 36] = struct.pack(">9i", a, b, 0, c, d, 0, 0, 0, 1 << 30)
    path.write_bytes(raw)


@pytest.mark.parametrize(
    "turn",
    [(1, 0, 0, 1), (-1, 0, 0, 1), (1, 0, 0, -1), (-1, 0, 0, -1), (0, 1, 1, 0), (0, 1, -1, 0), (0, -1, 1, 0),
     (0, -1, -1, 0)],
)  # fmt: skip
def test_a_clip_is_shown_as_the_phone_was_held(tmp_path: Path, turn: tuple[int, ...]) -> None:
    """Four colours in the corners: a corner (x, y) is shown at (a x + c y, b x + d y), as QuickTime defines it."""
    path = tmp_path / "a.mp4"
    corners = {(-1, -1): (255, 0, 0), (1, -1): (0, 255, 0), (-1, 1): (0, 0, 255), (1, 1): (255, 255, 255)}
    pixels = np.zeros((32, 48, 3), np.uint8)
    for (x, y), colour in corners.items():
        pixels[16 * (y > 0) :, 24 * (x > 0) :][:16, :24] = colour
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=8, options={"threads": "1", "crf": "10"})
        stream.width, stream.height = 48, 32
        container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        container.mux(stream.encode())
    with_matrix(path, turn)
    frame = read_clip(path, num_frames=1).frames[0].permute(1, 2, 0)
    assert frame.shape == ((48, 32, 3) if turn[0] == 0 else (32, 48, 3))
    a, b, c, d = turn
    for (x, y), colour in corners.items():
        column, row = (a * x + c * y > 0) * 0.5 + 0.25, (b * x + d * y > 0) * 0.5 + 0.25
        shown = frame[int(row * frame.shape[0]), int(column * frame.shape[1])].tolist()
        assert shown == pytest.approx(colour, abs=40)


def remux(source: Path, path: Path, *, lost: Container[int] = (), last_duration: int | None = None) -> Path:
    """Copy packets but for the lost ones."""
    with av.open(str(source)) as old, av.open(str(path), "w") as new:
        stream = new.add_stream_from_template(old.streams.video[0])
        packets = [packet for packet in old.demux(video=0) if packet.dts is not None]
        if last_duration is not None:
            packets[-1].duration = last_duration
        for number, packet in enumerate(packets):
            if number not in lost:
                packet.stream = stream
                new.mux(packet)
    return path


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_a_last_frame_lasts_as_long_as_its_packet_says(tmp_path: Path, suffix: str) -> None:
    source = write_clip(tmp_path / "a.mp4", codec="mpeg4")
    with av.open(str(source)) as container:
        ticks = round(3 / container.streams.video[0].time_base)
    path = remux(source, tmp_path / f"b{suffix}", last_duration=ticks)
    clip = read_clip(path, num_frames=16)
    assert clip.times is not None
    assert clip.times[-1].tolist() == pytest.approx([15 / 8, 15 / 8 + 3], abs=2e-3)
    assert levels(read_clip(f"{path}#t=3,4", num_frames=1).frames) == [15]


def test_a_last_picture_of_a_gif_stays_as_long_as_it_says(tmp_path: Path) -> None:
    first, *others = (Image.new("RGB", (32, 32), (60 * number,) * 3) for number in range(4))
    path = tmp_path / "a.gif"
    first.save(path, save_all=True, append_images=others, duration=[100, 100, 100, 3000])
    clip = read_clip(path, num_frames=4)
    assert clip.times is not None
    assert clip.times.flatten().tolist() == pytest.approx([0, 0.1, 0.1, 0.2, 0.2, 0.3, 0.3, 3.3])
    assert levels(read_clip(f"{path}#t=2,3", num_frames=1).frames) == [18]


@pytest.mark.parametrize("suffix", [".ts", ".mkv"])
def test_joined_clips_follow_each_other(tmp_path: Path, suffix: str) -> None:
    """Time stamps begin again in the second half."""
    codec = "mpeg2video" if suffix == ".ts" else "mpeg4"
    one = write_clip(tmp_path / f"one{suffix}", codec=codec, rate=25, g="4")
    path = tmp_path / f"two{suffix}"
    path.write_bytes(one.read_bytes() * 2)
    clip = read_clip(path, num_frames=32)
    assert levels(clip.frames) == [*range(16), *range(16)]
    assert clip.times is not None
    assert clip.times[:, 0].tolist() == pytest.approx([number / 25 for number in range(32)], abs=2e-3)
    assert levels(read_clip(path, num_frames=2, start_s=0.8, end_s=0.96).frames) == [5, 7]


def test_a_clip_that_begins_inside_a_group_has_the_frames_that_decode(tmp_path: Path) -> None:
    source = write_clip(tmp_path / "a.mkv", g="6", bf="0", sc_threshold="0")
    path = remux(source, tmp_path / "b.mkv", lost=range(2))
    clip = read_clip(path, num_frames=16)
    assert sorted(set(levels(clip.frames))) == [*range(6, 16)]
    assert clip.times is not None
    # The clock begins with the first packet, that of frame 2, which lacks what it builds on.
    assert float(clip.times[0, 0]) == pytest.approx(4 / 8, abs=2e-3)


def test_a_long_clip_that_begins_inside_a_group_is_not_decoded_as_a_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = write_clip(tmp_path / "a.mkv", g="6", bf="0", sc_threshold="0", num_frames=25)
    path = remux(source, tmp_path / "b.mkv", lost=range(2))
    monkeypatch.setattr(clips, "_decode_all", pytest.fail)
    assert levels(read_clip(path, num_frames=2).frames) == [10, 20]


def test_a_clip_of_several_sizes_is_scaled_to_the_first(tmp_path: Path) -> None:
    path = tmp_path / "a.ts"
    one = write_clip(tmp_path / "one.ts", rate=25, bf="0")
    two = write_clip(tmp_path / "two.ts", rate=25, bf="0", size=(64, 48))
    path.write_bytes(one.read_bytes() + two.read_bytes())
    clip = read_clip(path, num_frames=32)
    assert clip.frames.shape == (32, 3, 32, 48)
    assert levels(clip.frames) == [*range(16), *range(16)]


def test_a_count_in_the_header_that_is_wrong_is_named_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = write_clip(tmp_path / "a.avi", codec="mpeg4")
    raw = bytearray(path.read_bytes())
    at = raw.find(b"strh") + 40  # the length of the stream
    raw[at : at + 4] = (500).to_bytes(4, "little")
    path.write_bytes(raw)
    for _ in range(2):
        assert levels(read_clip(path, num_frames=4).frames) == [2, 6, 10, 14]
    assert caplog.messages == [f"'{path}' announces 500 frames and holds 16. What it holds is read."]


def test_a_part_left_out_by_an_edit_list_is_not_missed(tmp_path: Path) -> None:
    path = edited(write_clip(tmp_path / "a.mp4", g="4", bf="0"), tmp_path / "b.mp4", (0.75, 1.0))
    clip = read_clip(path, num_frames=8)
    assert levels(clip.frames) == [6, 7, 8, 9, 10, 11, 12, 13]
    assert clip.times is not None
    assert clip.times[[0, -1]].flatten().tolist() == pytest.approx([0, 1 / 8, 7 / 8, 1])


@pytest.mark.slow
@settings(deadline=None, max_examples=50)
@given(
    st.lists(st.floats(0.01, 2.0), min_size=1, max_size=20),
    st.floats(0.1, 30.0),
)
def test_spans_at_a_rate_cover_the_clip_without_gaps(gaps: list[float], fps: float) -> None:
    edges = [0.0, *accumulate(gaps)]
    indices, spans = rate_indices(edges[:-1], edges[-1], fps)
    assert len(indices) == len(spans)
    assert spans[0][0] == 0.0
    assert spans[-1][1] == edges[-1]
    assert all(first[1] == second[0] for first, second in pairwise(spans))
    assert indices == sorted(indices)
    assert all(0 <= index < len(gaps) for index in indices)


@pytest.mark.parametrize("size", [(48, 32), (640, 360)])
def test_a_frame_that_a_forked_process_frees_is_not_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: tuple[int, int]
) -> None:
    """Workers are forks: threads that scaled the frame do not exist there, and freeing it would wait for them."""
    kept: list[object] = []
    upright = clips._upright

    def keep(frame: av.VideoFrame) -> np.ndarray:
        kept.append(frame)
        return upright(frame)

    monkeypatch.setattr(clips, "_upright", keep)
    read_clip(write_clip(tmp_path / "a.mp4", size=size), num_frames=2)
    assert kept

    def free() -> None:
        kept.clear()
        gc.collect()  # a frame and its side data hold each other

    child = multiprocessing.get_context("fork").Process(target=free)
    child.start()
    child.join(30)
    ended = child.exitcode
    child.kill()
    assert ended == 0
