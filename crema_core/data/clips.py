"""Decode a few chosen frames of a clip file through PyAV.

Only packets are read to learn when frames appear (exact for variable frame rates and for containers that do not store a
frame count); then the chosen frames are decoded, seeking only where a key frame lies between two of them. That is as
fast as full decoding on files with few key frames and several times faster on files with many.

What decodes, with its own time stamps, is the truth; headers and packets are hints. While the chosen frames are
decoded, those before them are compared with the packets. Where they disagree (packets were lost, time stamps begin
again), the whole file is decoded once to learn what it shows and when.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import chain, pairwise
from pathlib import Path
from typing import Any, NamedTuple

import av
import numpy as np
import torch
from av.container import InputContainer
from av.sidedata.sidedata import SideData
from torch import Tensor

from crema_core.data.files import check_file, damaged
from crema_core.data.limits import in_time, require_room
from crema_core.data.media_clock import Decoder, MediaClock, open_container, origin_s, say_once
from crema_core.data.reuse import Kept, SampleFiles, Spare, note, sample_files
from crema_core.data.sampling import Pick, RememberedPick, middle_indices, rate_indices, segment_spans, split_span
from crema_core.data.sampling import Timeline as Timeline
from crema_core.errors import MediaError
from crema_core.plugins.spec import CLIP_SUFFIXES, SOUND_SUFFIXES

WHAT = "a clip"
LARGE = 1 << 26
"""Pixels of a frame, four times those of 8K, from which on memory counts for more than speed."""


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
    finish: int  # when the last frame disappears
    is_doubtful: bool  # packets were lost or damaged, or their times begin again: frames may differ from packets


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
    wanted = _Wanted(num_frames, start_s, end_s, fps, pick)
    note(replace(wanted, pick=pick.pick) if isinstance(pick, RememberedPick) else wanted)
    spans: list[tuple[float, float]] = []

    def choose(timeline: Timeline) -> list[int]:
        chosen, spans[:] = wanted.chosen(str(path), timeline)
        return chosen

    frames = read_chosen(split_span(str(path)).path, choose)
    return Clip(frames, torch.tensor(spans, dtype=torch.float32))


@dataclass(frozen=True)
class _Wanted:
    """What `read_clip` is asked for; of another clip, what a modality will probably ask for there."""

    num_frames: int
    start_s: float | None
    end_s: float | None
    fps: float | None
    pick: Pick

    def __call__(self, source: str, timeline: Timeline) -> list[int]:
        return self.chosen(source, timeline)[0]

    def chosen(self, source: str, timeline: Timeline) -> tuple[list[int], list[tuple[float, float]]]:
        """Return the frames that are taken of a source, and the span each stands for."""
        file, start_s, end_s = split_span(source).within(self.start_s, self.end_s)
        starts_s, finish_s = timeline
        first, last = _part(Path(file), starts_s, finish_s, start_s, end_s)
        limit_s = starts_s[last] if last < len(starts_s) else finish_s
        if self.fps is not None:
            until_s = limit_s if end_s is None else min(end_s, limit_s)
            low_s = max(start_s or 0.0, starts_s[first])
            numbers, spans = rate_indices(starts_s[first:last], until_s, self.fps, low_s=low_s)
            if len(numbers) <= self.num_frames:
                return [first + number for number in numbers], spans
        offsets = self.pick(last - first, self.num_frames)
        return [first + offset for offset in offsets], segment_spans(starts_s[first:last], limit_s, len(offsets))


def read_chosen(path: str | Path, choose: Chooser) -> Tensor:
    """Read the frames that `choose` names once it knows when each one is on screen.

    Returns:
        `(T, 3, H, W)` uint8, upright (the rotation stored by phones is applied).

    Raises:
        MediaError: as `read_clip`, and whatever `choose` raises.
    """
    path = check_file(path, what=WHAT, suffixes=CLIP_SUFFIXES)
    files = sample_files()
    found = None if files is None else _of_kept(path, files.kept(path), choose)
    chosen, pictures = found or _decoded(path, choose, files)
    height, width, _ = pictures[chosen[0]].shape
    _require_pictures(path, len(chosen), width, height)
    pictures = _of_one_size(pictures, height=height, width=width)
    frames = np.empty((len(chosen), 3, height, width), np.uint8)
    last = {number: row for row, number in enumerate(chosen)}
    for row, number in enumerate(chosen):
        frames[row] = pictures[number].transpose(2, 0, 1)  # numpy's copy takes half as long as torch's
        if last[number] == row:
            del pictures[number]  # large pictures are in memory once, not twice
    return torch.from_numpy(frames)


def _of_kept(path: Path, kept: Kept | None, choose: Chooser) -> tuple[list[int], dict[int, np.ndarray]] | None:
    """Return what is chosen of frames that were decoded for another modality; None when they are not all there."""
    if kept is None:
        return None
    chosen = choose(kept.timeline)
    _require_pictures(path, len(set(chosen)), kept.width, kept.height)
    if not set(chosen) <= kept.frames.keys():
        return None
    return chosen, {number: _checked(path, kept.frames[number]) for number in sorted(set(chosen))}


def _decoded(path: Path, choose: Chooser, files: SampleFiles | None) -> tuple[list[int], dict[int, np.ndarray]]:
    """Return which frames are chosen, and these; others that are due in this sample are kept on the way."""
    pictures: dict[int, np.ndarray] | None = None
    spare = Spare()
    with open_container(path, what=WHAT, suffixes=CLIP_SUFFIXES) as container:
        stream = _picture_stream(container, path)
        index = _index(container, stream, path)
        timeline = _timeline(container, stream, index.stamps, index.finish)
        chosen = choose(timeline)
        width, height = stream.codec_context.width, stream.codec_context.height
        _require_pictures(path, len(set(chosen)), width, height)
        if files is not None and width * height <= LARGE:
            spare = files.spare(path, timeline, width * height * 3)
        if not index.is_doubtful:
            pictures = _decode(container, stream, index, set(chosen), spare, path)
            if pictures is None and not spare.numbers:
                pictures = _decode(container, stream, index, set(chosen), spare, path, is_exact=False)
    if pictures is None and not index.is_doubtful and spare.numbers:
        # What others want of a damaged file decides nothing here, nor what is found here for them.
        return _decoded(path, choose, None)
    if pictures is None:
        chosen, pictures, timeline = _choose_of_decoded(path, index, choose, guess=set(chosen), spare=spare)
    if files is not None:
        files.keep(path, Kept(timeline, width, height, spare.frames))
    return chosen, pictures


def _require_pictures(path: Path, count: int, width: int, height: int) -> None:
    pictures = "a picture" if count == 1 else f"{count:,} pictures"
    copies = 1 if width * height <= LARGE else 2  # a decoder's own frames are small beside others
    require_room(path, copies * count * width * height * 3, f"{pictures} of {width:,} x {height:,} pixels")


def _of_one_size(pictures: dict[int, np.ndarray], *, height: int, width: int) -> dict[int, np.ndarray]:
    """Scale pictures to one size where it changes inside a file, as the ffmpeg program does."""
    scaled = {}
    for number, own in pictures.items():
        if own.shape[:2] != (height, width):
            frame = av.VideoFrame.from_ndarray(own, format="rgb24").reformat(width=width, height=height, threads=1)
            own = frame.to_ndarray(format="rgb24", threads=1)
        scaled[number] = own
    return scaled


def _picture_stream(container: InputContainer, path: Path) -> av.VideoStream:
    streams = [stream for stream in container.streams if isinstance(stream, av.VideoStream)]
    if not streams and not any(isinstance(stream, av.AudioStream) for stream in container.streams):
        raise damaged(path, "it holds neither pictures nor sound", what=WHAT, suffixes=CLIP_SUFFIXES)
    if not streams:
        raise MediaError(
            f"'{path}' has no picture stream, only sound. A clip needs pictures. Name a file that has them, or give "
            "this file to a modality that listens."
        )
    if streams[0].codec_context is None:
        raise MediaError(
            f"'{path}' has pictures in a coding that this FFmpeg (PyAV {av.__version__}) cannot decode. Accepted are "
            "those it knows. Convert the clip: ffmpeg -i CLIP -c:v libx264 clip.mp4"
        )
    context = streams[0].codec_context
    # Threads that decode a frame each would hold as many large ones.
    streams[0].thread_type = "AUTO" if context.width * context.height <= LARGE else "SLICE"
    return streams[0]


def _timeline(container: InputContainer, stream: av.VideoStream, stamps: Sequence[int], finish: int) -> Timeline:
    unit_s, begin_s = float(stream.time_base or 1), origin_s(container)
    return Timeline([stamp * unit_s - begin_s for stamp in stamps], finish * unit_s - begin_s)


def _index(container: InputContainer, stream: av.VideoStream, path: Path) -> _Index:
    clock = MediaClock(container, stream)
    packets: list[_Packet] = []
    num_packets, is_corrupt = 0, False
    for packet in in_time(path, container.demux(clock.streams)):
        if not packet.size:
            continue
        clock.set(packet)
        if packet.stream.index != stream.index:
            continue
        num_packets += 1
        is_corrupt |= packet.is_corrupt
        if not packet.is_discard and not _is_hidden(packet, stream):
            packets.append(_Packet(_stamp(packet), packet.dts, packet.is_keyframe, packet.duration or 0))
    _compare_count(container, stream, num_packets, path)
    stamps = sorted(packet.stamp for packet in packets if packet.stamp is not None)
    if not stamps:
        raise damaged(path, "it holds no frame", what=WHAT, suffixes=CLIP_SUFFIXES)
    keys = [
        _Key(packet.stamp, packet.stamp if packet.decoded_at is None else min(packet.stamp, packet.decoded_at))
        for packet in packets
        if packet.is_key and packet.stamp is not None
    ]
    is_doubtful = bool(clock.num_jumps) or is_corrupt or len(set(stamps)) < len(packets)
    if not is_doubtful and (not packets[0].is_key or packets[0].stamp != stamps[0]):
        # It may begin inside a group of pictures, whose frames lack what they build on.
        first = _first_decoded(path)
        stamps = [stamp for stamp in stamps if stamp >= first]
        keys = [key for key in keys if key.stamp >= first]
        is_doubtful = not stamps or stamps[0] != first
    finish = _finish([(packet.stamp, packet.duration) for packet in packets if packet.stamp is not None])
    return _Index(stamps, sorted(keys) or [_Key(stamps[0], stamps[0])], finish, is_doubtful)


def _is_hidden(packet: av.Packet[Any], stream: av.VideoStream) -> bool:
    """Return whether a packet holds a picture that others build on and that is never shown (RFC 6386, 9.1)."""
    return stream.codec_context.name == "vp8" and not memoryview(packet)[0] & 0x10


def _compare_count(container: InputContainer, stream: av.VideoStream, num_packets: int, path: Path) -> None:
    # MP4's count has frames that an edit list leaves out; FFmpeg's list of places is made with it.
    is_mp4 = container.format.name.startswith("mov")
    told = len(stream.index_entries) if is_mp4 else stream.frames
    if is_mp4 and num_packets < told:
        cause = f"it is cut short, it announces {told} frames and holds {num_packets}"
        raise damaged(path, cause, what=WHAT, suffixes=CLIP_SUFFIXES)
    if not is_mp4 and told and abs(num_packets - told) > max(1, told // 100):  # one is a matter of counting
        say_once(f"'{path}' announces {told:,} frames and holds {num_packets:,}. What it holds is read.")


def _first_decoded(path: Path) -> int:
    """Return the time stamp of the first frame that can be decoded."""
    with open_container(path, what=WHAT, suffixes=CLIP_SUFFIXES) as container:
        stream = _picture_stream(container, path)
        decoder = Decoder(container)
        for packet in in_time(path, container.demux(stream)):
            for frame in decoder.frames(packet):
                if (stamp := _stamp(frame)) is not None:
                    return stamp
    raise damaged(path, "it holds no frame that FFmpeg can decode", what=WHAT, suffixes=CLIP_SUFFIXES)


def _finish(shown: Sequence[tuple[int, int]]) -> int:
    """Return when the last frame disappears.

    Args:
        shown: time stamp and duration of every frame, 0: unknown.
    """
    shown = sorted(shown)
    last, own = shown[-1]
    gaps = [after - before for (before, _), (after, _) in pairwise(shown)]
    step = sorted(gaps)[len(gaps) // 2] if gaps else own or 1
    if not own or abs(own - step) <= max(1, step // 50):
        return last + step
    # A duration that every packet has is the container's guess, unless it tells when the next frame comes.
    usual = Counter(duration for _, duration in shown).most_common(1)[0][0]
    num_right = sum(abs(duration - gap) <= 1 for (_, duration), gap in zip(shown, gaps, strict=False))
    return last + (step if own == usual and 2 * num_right < len(gaps) else own)


def _stamp(item: av.Packet[Any] | av.VideoFrame) -> int | None:
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
    container: InputContainer,
    stream: av.VideoStream,
    index: _Index,
    wanted: set[int],
    spare: Spare,
    path: Path,
    *,
    is_exact: bool = True,
) -> dict[int, np.ndarray] | None:
    """Return the wanted frames; None when what is decoded disagrees with the index.

    Each is what comes out when its key frame is sought, whatever else is decoded in the same pass. Where a key frame is
    none by itself (pictures that are renewed bit by bit), only decoding from an earlier one, not `is_exact`, may do.
    """
    pictures: dict[int, np.ndarray] = {}
    numbers = {stamp: number for number, stamp in enumerate(index.stamps)}
    position: int | None = None  # stamp of the last decoded frame
    frames: Iterator[av.VideoFrame] = iter(())
    for number in sorted(wanted | spare.numbers):
        if number not in wanted and number not in spare.numbers:
            continue  # there was no room for it
        target = index.stamps[number]
        key = max((key for key in index.keys if key.stamp <= target), default=index.keys[0])
        if position is None or key.stamp > position:
            frames = in_time(path, _from_key(container, stream, key, is_exact=is_exact))
            due = numbers.get(key.stamp)  # the frame that must come next
        try:
            for frame in frames:
                position = _stamp(frame)
                if position is None or position >= key.stamp:
                    if due is None or position is None or numbers.get(position) != due:
                        return None
                    due += 1
                    if position >= target:
                        break
        except av.error.FFmpegError:
            return None
        if position != target:  # the container's seeking is not exact, or its packets have no times
            return None
        if number in wanted:
            pictures[number] = _checked(path, frame)
        spare.add(number, frame)
    return pictures


def _from_key(
    container: InputContainer, stream: av.VideoStream, key: _Key, *, is_exact: bool
) -> Iterator[av.VideoFrame]:
    """Yield frames from a key frame on, or from an earlier one where the container does not find it."""
    # MP4 is sought by presentation time, others by decoding time, with which MP4 gives the group before.
    for place in dict.fromkeys((key.stamp, key.seek_to) if is_exact else (key.seek_to,)):
        container.seek(place, stream=stream, backward=True)
        packets = container.demux(stream)
        first = next(packets, None)
        if first is not None and (place == key.seek_to or (first.is_keyframe and _stamp(first) == key.stamp)):
            for packet in chain([first], packets):
                yield from packet.decode()
            return


def _checked(path: Path, frame: av.VideoFrame) -> np.ndarray:
    _require_pictures(path, 1, frame.width, frame.height)  # it may be another size than the file announces
    return _upright(frame)


def _choose_of_decoded(
    path: Path, index: _Index, choose: Chooser, *, guess: set[int], spare: Spare
) -> tuple[list[int], dict[int, np.ndarray], Timeline]:
    """Decode all to learn what is shown and when; `guess` are the frames that will probably be chosen of that."""
    decoded, timeline = _decode_all(path, index, guess, spare)
    chosen = choose(timeline)
    if missing := set(chosen) - decoded.keys():
        decoded |= _decode_all(path, index, missing, Spare())[0]
    return chosen, decoded, timeline


def _decode_all(path: Path, index: _Index, wanted: set[int], spare: Spare) -> tuple[dict[int, np.ndarray], Timeline]:
    pictures: dict[int, np.ndarray] = {}
    shown: list[tuple[int | None, int]] = []
    with open_container(path, what=WHAT, suffixes=CLIP_SUFFIXES) as container:
        stream = _picture_stream(container, path)
        # Frames decoded beside a damaged one would be lost with it.
        stream.thread_type = "SLICE"
        decoder, clock = Decoder(container), MediaClock(container, stream)
        for packet in in_time(path, container.demux(clock.streams)):
            clock.set(packet)
            if packet.stream.index != stream.index:
                continue
            for frame in decoder.frames(packet):
                if len(shown) in wanted:
                    pictures[len(shown)] = _checked(path, frame)
                spare.add(len(shown), frame)
                shown.append((_stamp(frame), frame.duration or 0))
        if not shown:
            raise damaged(path, "it holds no frame that FFmpeg can decode", what=WHAT, suffixes=CLIP_SUFFIXES)
        if decoder.num_lost:
            say_once(
                f"FFmpeg cannot decode {decoder.num_lost:,} packets of '{path}'. The other {len(shown):,} are read."
            )
        timed = _timed(shown)
        stamps = [stamp for stamp, _ in timed]
        if len(stamps) == len(index.stamps) and stamps != sorted(stamps):
            stamps = index.stamps  # of containers without presentation times
        return pictures, _timeline(container, stream, sorted(stamps), _finish(timed))


def _timed(shown: Sequence[tuple[int | None, int]]) -> list[tuple[int, int]]:
    """Give frames without a time stamp the one that follows from their neighbours' durations."""
    timed: list[tuple[int, int]] = []
    known = [number for number, (stamp, _) in enumerate(shown) if stamp is not None]
    begin = shown[known[0]][0] if known else 0
    due = (begin or 0) - sum(duration for _, duration in shown[: known[0] if known else 0])
    for stamp, duration in shown:
        due = due if stamp is None else stamp
        timed.append((due, duration))
        due += duration or 1
    return timed


def _upright(frame: av.VideoFrame) -> np.ndarray:
    """Return the pixels `(H, W, 3)` as a player shows them; phones store them as the sensor lies, or mirrored."""
    # Threads that scale would be waited for when a worker process, which does not have them, frees the frame.
    pixels = frame.to_ndarray(format="rgb24", threads=1)
    matrix = frame.side_data.get("DISPLAYMATRIX")
    if not isinstance(matrix, SideData):
        return pixels
    # A point (x, y) of the picture is shown at (a x + c y, b x + d y); of other turns the nearest quarter is taken.
    a, b, _, c, d = np.frombuffer(bytes(matrix), np.int32)[:5].astype(np.int64)
    if abs(b) + abs(c) > abs(a) + abs(d):
        pixels, a, d = pixels.transpose(1, 0, 2), c, b
    return np.ascontiguousarray(pixels[:: -1 if d < 0 else 1, :: -1 if a < 0 else 1])


def length_s(path: str) -> float | None:
    """Return the seconds a clip or sound lasts, by its packets; None for other files and for those that are damaged.

    What is damaged is found by reading it; here only lengths are compared.
    """
    if Path(path).suffix.lower() not in SOUND_SUFFIXES or not Path(path).is_file():
        return None
    try:
        with open_container(Path(path), what=WHAT, suffixes=CLIP_SUFFIXES) as container:
            streams = [own for own in container.streams if isinstance(own, av.VideoStream | av.AudioStream)]
            if not streams:
                return None
            shared = MediaClock(container, streams[0])
            clocks = {own.index: shared if own in shared.streams else MediaClock(container, own) for own in streams}
            ends_s = [0.0]
            for packet in in_time(path, container.demux(streams)):
                clocks[packet.stream_index].set(packet)
                if packet.pts is not None and not packet.is_discard:
                    ends_s.append((packet.pts + (packet.duration or 0)) * float(packet.time_base or 1))
            return max(ends_s) - origin_s(container)
    except MediaError:
        return None
