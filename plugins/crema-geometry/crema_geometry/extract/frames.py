"""The frames experts look at: of a clip or a folder of pictures, each with the frame that follows it."""

from __future__ import annotations

import os
from bisect import bisect_right
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from crema_core.data.clips import Timeline, read_chosen
from crema_core.data.media import (
    CLIP_SUFFIXES,
    FRAME_SUFFIXES,
    IMAGE_SUFFIXES,
    check_file,
    list_files,
    middle_indices,
    rate_indices,
    read_frames,
    segment_spans,
)
from crema_core.data.sampling import Span, split_span
from crema_core.errors import MediaError


class Frames(NamedTuple):
    """What is looked at.

    Attributes:
        frames: `(T, 3, H, W)` uint8.
        pairs: `(first, second)`, each `(T, 3, H, W)`, between which the motion of each frame is seen; None when the
            source has one frame.
        times: `(T, 2)` seconds each frame covers; None for pictures.
    """

    frames: Tensor
    pairs: tuple[Tensor, Tensor] | None
    times: Tensor | None


class Picked(NamedTuple):
    """Numbers of frames: all to read, those looked at, and the two of each one's pair."""

    wanted: list[int]
    numbers: list[int]
    first: list[int]
    second: list[int]


def read_pairs(
    source: str | os.PathLike[str], *, num_frames: int, fps: float | None, gap_s: float | None, max_side: int
) -> Frames:
    """Read frames and their successors; the last frame's motion is seen from the one before it.

    Args:
        source: a clip, a picture or a folder of pictures; `a.mp4#t=1,2` is a part of a clip, whose frames alone are
            looked at.
        num_frames, fps: as `crema_core.data.clips.read_clip`.
        gap_s: seconds between the frames of a pair; None: the next frame.
        max_side: larger frames are made smaller.

    Raises:
        MediaError: when the source cannot be read, or has no clock and `fps` or `gap_s` was asked.
    """
    part = split_span(os.fspath(source))
    path = Path(part.path)
    if path.suffix.lower() in CLIP_SUFFIXES and not path.is_dir():
        return _of_clip(part, num_frames, fps, gap_s, max_side)
    if part.label:
        raise MediaError(
            f"'{source}' is a part of pictures, which have no clock. Seconds are counted in clip files. Leave the part "
            "out, or name a clip."
        )
    if fps is not None or gap_s is not None:
        raise MediaError(
            f"'{path}' holds pictures without a clock, and frames per second or a gap in seconds were asked. Those "
            "need a clip file. Leave --fps and --flow-gap-s out for pictures."
        )
    if not path.is_dir():
        check_file(path, what="a clip or picture", suffixes=FRAME_SUFFIXES)
    paths = list_files(path, what="a picture", suffixes=IMAGE_SUFFIXES) if path.is_dir() else [path]
    numbers = middle_indices(len(paths), num_frames) if len(paths) > 1 else [0]
    first, second = successors(numbers, last=len(paths) - 1)
    wanted = sorted({*numbers, *first, *second})
    pictures = read_frames([str(paths[number]) for number in wanted], num_frames=len(wanted)).frames
    return _arrange(shrink(pictures, max_side), Picked(wanted, numbers, first, second), None)


def successors(numbers: Sequence[int], *, last: int, ahead: Sequence[int] | None = None) -> tuple[list[int], list[int]]:
    """Return the two frames of each frame's pair.

    >>> successors([0, 4, 7], last=7)
    ([0, 4, 6], [1, 5, 7])

    Args:
        numbers: the frames looked at.
        last: number of the last frame there is.
        ahead: the frame that follows each after the gap; None: the next.
    """
    after = [number + 1 for number in numbers] if ahead is None else list(ahead)
    pairs = [
        (number, following) if number < following <= last else (max(2 * number - following, 0), number)
        for number, following in zip(numbers, after, strict=True)
    ]
    return [first for first, _ in pairs], [second for _, second in pairs]


def shrink(frames_TCHW: Tensor, max_side: int) -> Tensor:
    """Return frames whose longer side is at most `max_side`, uint8."""
    height, width = frames_TCHW.shape[-2:]
    scale = max_side / max(height, width)
    if scale >= 1:
        return frames_TCHW
    size = (max(round(height * scale), 1), max(round(width * scale), 1))
    smaller = interpolate(frames_TCHW.float(), size=size, mode="bicubic", antialias=True, align_corners=False)
    return smaller.round().clamp(0, 255).to(torch.uint8)


def _of_clip(part: Span, num_frames: int, fps: float | None, gap_s: float | None, max_side: int) -> Frames:
    picked: list[Picked] = []
    spans: list[tuple[float, float]] = []

    def choose(timeline: Timeline) -> list[int]:
        begin, end = _bounds(part, timeline)
        starts_s = timeline.starts_s[begin:end]
        finish_s = timeline.starts_s[end] if end < len(timeline.starts_s) else timeline.finish_s
        last = len(starts_s) - 1
        numbers = middle_indices(len(starts_s), num_frames)
        spans[:] = segment_spans(starts_s, finish_s, num_frames)
        if fps is not None:
            until_s = finish_s if part.end_s is None else min(part.end_s, finish_s)
            at_rate, own = rate_indices(starts_s, until_s, fps, low_s=max(part.start_s or 0.0, starts_s[0]))
            if len(at_rate) <= num_frames:
                numbers, spans[:] = at_rate, own
        ahead = None
        if gap_s is not None:
            ahead = [max(bisect_right(starts_s, starts_s[n] + gap_s + 1e-6) - 1, n + 1) for n in numbers]
            beyond = [starts_s[n] + gap_s > starts_s[-1] + 1e-6 for n in numbers]
            steps = [a - n for a, n, out in zip(ahead, numbers, beyond, strict=True) if not out]
            # A frame too near the end looks back by as many frames as the others look ahead.
            back = steps[-1] if steps else 1
            ahead = [n + back if out else a for a, n, out in zip(ahead, numbers, beyond, strict=True)]
        first, second = successors(numbers, last=last, ahead=ahead)
        chosen = [[begin + number for number in own] for own in (numbers, first, second)]
        wanted = sorted({number for own in chosen for number in own})
        picked[:] = [Picked(wanted, *chosen)]
        return wanted

    frames = shrink(read_chosen(part.path, choose), max_side)
    return _arrange(frames, picked[0], torch.tensor(spans, dtype=torch.float32))


def _bounds(part: Span, timeline: Timeline) -> tuple[int, int]:
    """Return the first frame on screen in a part, and the first one after it."""
    starts_s, finish_s = timeline.starts_s, timeline.finish_s
    low = max(part.start_s or 0.0, starts_s[0])
    high = finish_s if part.end_s is None else part.end_s
    begin = max(bisect_right(starts_s, low + 1e-6) - 1, 0)
    end = sum(start < high - 1e-6 for start in starts_s)
    if begin >= end or low >= finish_s:
        raise MediaError(
            f"'{part.path}' has no frame between {low:g} s and {high:g} s; it lasts {finish_s:g} s. A part must "
            f"overlap 0..{finish_s:g} s. Change the part."
        )
    return begin, end


def _arrange(frames: Tensor, picked: Picked, times: Tensor | None) -> Frames:
    row = {number: index for index, number in enumerate(picked.wanted)}
    pick = [frames[[row[number] for number in chosen]] for chosen in picked[1:]]
    moves = any(a != b for a, b in zip(picked.first, picked.second, strict=True))
    return Frames(pick[0], (pick[1], pick[2]) if moves else None, times)
