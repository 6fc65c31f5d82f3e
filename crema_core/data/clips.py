"""Decode a few chosen frames of a clip file through PyAV.

Only packets are read to learn when frames appear (exact for variable frame rates and for containers that do not store a
frame count); then the chosen frames are decoded, seeking only where a key frame lies between two of them. That is as
fast as full decoding on files with few key frames and several times faster on files with many.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import av
import numpy as np
import torch
from av.container import InputContainer
from torch import Tensor

from crema_core.data.files import check_file, damaged
from crema_core.data.sampling import Pick, middle_indices, rate_indices, segment_spans, split_span
from crema_core.errors import MediaError

CLIP_SUFFIXES = (".mp4", ".mov", ".m4v", ".mkv", ".webm", ".avi", ".mpg", ".mpeg", ".ts", ".gif")
SOUND_SUFFIXES = (".wav", ".flac", ".mp3", ".ogg", ".opus", ".m4a", ".aac", *(s for s in CLIP_SUFFIXES if s != ".gif"))
WHAT = "a clip"


class Clip(NamedTuple):
    """Frames with the time each covers.

    Attributes:
        frames: `(T, 3, H, W)` RGB, uint8 0..255 or float 0..1.
        times: `(T, 2)` float32 seconds, start and end of every frame's segment; None for sources without a clock.
    """

    frames: Tensor
    times: Tensor | None


class _Key(NamedTuple):
    stamp: int  # presentation time of a key frame
    seek_to: int  # where to seek for it: containers index decoding times


class _Packet(NamedTuple):
    """What is kept of a packet; its content, which may be gigabytes in a long clip, is not."""

    stamp: int | None
    decoded_at: int | None
    is_key: bool
    duration: int


class _Index(NamedTuple):
    stamps: list[int]  # presentation time of every frame in `time_base` units, sorted
    keys: list[_Key]  # sorted, at least one
    step: int  # duration of one frame


class Timeline(NamedTuple):
    """When the frames of a clip are on screen, in seconds from the beginning of the file."""

    starts_s: list[float]  # when each frame appears, ascending
    finish_s: float  # when the last one disappears


Chooser = Callable[[Timeline], list[int]]
"""Which frames are wanted, by number, in any order and repeated at will."""


def read_clip(
    path: str | Path,
    *,
    num_frames: int,
    start_s: float | None = None,
    end_s: float | None = None,
    fps: float | None = None,
    pick: Pick = middle_indices,
) -> Clip:
    """Read frames of a clip, by default the middle ones of equal segments.

    Args:
        path: a file with a picture stream; `a.mp4#t=1,2` is the part from second 1 to 2.
        num_frames: frames returned; a shorter clip's frames repeat. With `fps` the most frames returned.
        start_s, end_s: part to look at, seconds from the beginning of what `path` names; None: from the start, to the
            end.
        fps: frames per second taken instead; a part with more than `num_frames` of them is sampled evenly as without.
        pick: which frames of the part are taken, without `fps`.

    Returns:
        Frames `(T, 3, H, W)` uint8, upright, and spans `(T, 2)` in seconds from the beginning of the file.

    Raises:
        MediaError: when the file is absent, empty, damaged, without pictures, or has none between the two times.
    """
    file, start_s, end_s = split_span(str(path)).within(start_s, end_s)
    spans: list[tuple[float, float]] = []

    def choose(timeline: Timeline) -> list[int]:
        starts_s, finish_s = timeline
        first, last = _part(Path(file), starts_s, finish_s, start_s, end_s)
        limit_s = starts_s[last] if last < len(starts_s) else finish_s
        if fps is not None:
            until_s = limit_s if end_s is None else min(end_s, limit_s)
            low_s = max(start_s or 0.0, starts_s[first])
            numbers, spans[:] = rate_indices(starts_s[first:last], until_s, fps, low_s=low_s)
            if len(numbers) <= num_frames:
                return [first + number for number in numbers]
        spans[:] = segment_spans(starts_s[first:last], limit_s, num_frames)
        return [first + offset for offset in pick(last - first, num_frames)]

    frames = read_chosen(file, choose)
    return Clip(frames, torch.tensor(spans, dtype=torch.float32))


def read_chosen(path: str | Path, choose: Chooser) -> Tensor:
    """Read the frames that `choose` names once it knows when each one is on screen.

    Returns:
        `(T, 3, H, W)` uint8, upright (the rotation stored by phones is applied).

    Raises:
        MediaError: as `read_clip`, and whatever `choose` raises.
    """
    path = check_file(path, what=WHAT, suffixes=CLIP_SUFFIXES)
    try:
        with av.open(str(path), metadata_errors="replace") as container:
            stream = _picture_stream(container, path)
            index = _index(container, stream, path)
            unit_s = float(stream.time_base or 1)
            origin = container.start_time / av.time_base if container.start_time is not None else 0.0
            starts_s = [stamp * unit_s - origin for stamp in index.stamps]
            chosen = choose(Timeline(starts_s, starts_s[-1] + index.step * unit_s))
            pictures = _decode(container, stream, index, sorted(set(chosen)))
    except av.error.FFmpegError as error:
        raise damaged(path, "the decoder found invalid data", what=WHAT, suffixes=CLIP_SUFFIXES) from error
    missing = [number for number in chosen if number not in pictures]
    if missing:
        cause = f"frame {missing[0]} of {len(index.stamps)} could not be decoded"
        raise damaged(path, cause, what=WHAT, suffixes=CLIP_SUFFIXES)
    if len({picture.shape for picture in pictures.values()}) > 1:
        cause = "its frames have different sizes"
        raise damaged(path, cause, what=WHAT, suffixes=CLIP_SUFFIXES)
    frames = torch.from_numpy(np.stack([pictures[number] for number in chosen]))
    return frames.permute(0, 3, 1, 2).contiguous()


def _picture_stream(container: InputContainer, path: Path) -> av.VideoStream:
    streams = [stream for stream in container.streams if isinstance(stream, av.VideoStream)]
    if not streams and not any(isinstance(stream, av.AudioStream) for stream in container.streams):
        raise damaged(path, "it holds neither pictures nor sound", what=WHAT, suffixes=CLIP_SUFFIXES)
    if not streams:
        raise MediaError(
            f"'{path}' has no picture stream, only sound. A clip needs pictures. Name a file that has them, or give "
            "this file to a modality that listens."
        )
    streams[0].thread_type = "AUTO"
    return streams[0]


def _index(container: InputContainer, stream: av.VideoStream, path: Path) -> _Index:
    packets = [
        _Packet(_stamp(packet), packet.dts, packet.is_keyframe, packet.duration or 1)
        for packet in container.demux(stream)
        if packet.size and not packet.is_discard
    ]
    stamps = sorted(packet.stamp for packet in packets if packet.stamp is not None)
    if not stamps or len(packets) < stream.frames:
        cause = f"it announces {stream.frames} frames and holds {len(packets)}" if packets else "it holds no frame"
        raise damaged(path, cause, what=WHAT, suffixes=CLIP_SUFFIXES)
    keys = [
        _Key(packet.stamp, packet.stamp if packet.decoded_at is None else min(packet.stamp, packet.decoded_at))
        for packet in packets
        if packet.is_key and packet.stamp is not None
    ]
    gaps = sorted(after - before for before, after in pairwise(stamps))
    step = gaps[len(gaps) // 2] if gaps else packets[0].duration
    return _Index(stamps, sorted(keys) or [_Key(stamps[0], stamps[0])], step)


def _stamp(item: av.Packet[av.VideoStream] | av.VideoFrame) -> int | None:
    return item.pts if item.pts is not None else item.dts


def _part(
    path: Path, starts_s: list[float], finish_s: float, start_s: float | None, end_s: float | None
) -> tuple[int, int]:
    low = max(start_s or 0.0, starts_s[0])
    high = finish_s if end_s is None else end_s
    first = max(bisect_right(starts_s, low + 1e-6) - 1, 0)  # the frame on screen at `low`
    last = sum(start < high - 1e-6 for start in starts_s)
    if first >= last or low >= finish_s:
        raise MediaError(
            f"'{path}' has no frame between {low:g} s and {high:g} s; it lasts {finish_s:g} s. A part must overlap "
            f"0..{finish_s:g} s. Change start_s and end_s."
        )
    return first, last


def _decode(
    container: InputContainer, stream: av.VideoStream, index: _Index, wanted: list[int]
) -> dict[int, np.ndarray]:
    pictures: dict[int, np.ndarray] = {}
    position: int | None = None  # stamp of the last decoded frame
    frames: Iterator[av.VideoFrame] = iter(())
    for number in wanted:
        target = index.stamps[number]
        key = max((key for key in index.keys if key.stamp <= target), default=index.keys[0])
        if position is None or key.stamp > position:
            container.seek(key.seek_to, stream=stream, backward=True)
            frames = container.decode(stream)
        for frame in frames:
            position = _stamp(frame)
            if position is not None and position >= target:
                break
        if position != target:  # the container's seeking is not exact, or its packets have no times
            return _decode_in_order(container, stream, index, wanted)
        pictures[number] = _upright(frame)
    return pictures


def _decode_in_order(
    container: InputContainer, stream: av.VideoStream, index: _Index, wanted: list[int]
) -> dict[int, np.ndarray]:
    container.seek(min(key.seek_to for key in index.keys), stream=stream, backward=True)
    numbered = zip(range(wanted[-1] + 1), container.decode(stream), strict=False)
    return {number: _upright(frame) for number, frame in numbered if number in wanted}


def _upright(frame: av.VideoFrame) -> np.ndarray:
    """Return the pixels `(H, W, 3)` as a player shows them; phones store the picture as the sensor lies."""
    pixels = frame.to_ndarray(format="rgb24")
    turns = round(frame.rotation / 90) % 4
    return np.ascontiguousarray(np.rot90(pixels, turns)) if turns else pixels


def length_s(path: str) -> float | None:
    """Return the seconds a clip or sound lasts; None for other files and for those that cannot be opened or do not say.

    A file that cannot be opened is found by reading it; here only lengths are compared.
    """
    if Path(path).suffix.lower() not in SOUND_SUFFIXES or not Path(path).is_file():
        return None
    try:
        with av.open(path, metadata_errors="replace") as container:
            return None if container.duration is None else container.duration / av.time_base
    except av.error.FFmpegError:
        return None
