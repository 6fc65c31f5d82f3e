"""Sound as one channel at one rate, from sound files, from the sound track of a clip, or from memory.

Files are decoded through PyAV: the whole of one, or parts of a long one without what lies between them. Every frame is
heard when its time stamp says: what was lost or left out is silence, and what changes rate or channels is resampled
piece by piece.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

import av
import numpy as np
import torch
from av.container import InputContainer
from torch import Tensor

from crema_audio.arrays import read_mono
from crema_core.data.media import SOUND_SUFFIXES, check_file, damaged, in_time, require_room
from crema_core.data.media_clock import Decoder, MediaClock, may_jump, open_container, origin_s, say_once
from crema_core.data.sampling import split_span
from crema_core.errors import MediaError

SHORTEST = 1024
"""Samples that every resampling filter gives an output for."""
WHAT = "a sound"
LOWEST_HZ, HIGHEST_HZ = 100, 10_000_000
"""Rates of sounds, of machines and of the sea too. Beyond them a forged header would ask for hours of work."""
LONG_S = 600.0
"""Files that say they last longer are read in parts; shorter ones are decoded once, whole."""
BEFORE_S = 2.0
"""Decoded before a part and thrown away, so that decoder and resampling filter have settled when it begins. Wherever
decoding starts, an Opus decoder leaves out what the header calls pre-skip, up to 65,535 samples or 1.4 s (RFC 7845)."""
NEAR_END_S = 10.0
"""How long before its end a file's last packets are looked for."""
TOLERANCE_S = 0.25
"""What a file may hold less than it says; it is silence then."""
RAW_FORMATS = ("mp3", "aac", "flac")
"""Formats without time stamps: their packets follow each other, but for those that cannot be decoded."""
MOST_SHORT = 100
"""Packets of plain numbers that may hold fewer than they announce, as the last of a track."""
_PLAIN = re.compile(r"pcm_[fsu](\d+)")
LEAST_GAP_S, MOST_GAP_S = 0.02, 0.1
"""Time stamps that are off by less are rounded; in between, what is about as long as a packet is a gap."""


class Sound(NamedTuple):
    """A mono waveform."""

    samples: Tensor  # `(S,)` float32, full scale is -1..1
    start_s: float  # when the first sample is heard, seconds from the beginning of the source


class Waveform(NamedTuple):
    """A mono waveform whose parts are read when they are asked for: a long file is never in memory as a whole.

    Attributes:
        num_samples: its length S.
        start_s: when the first sample is heard, seconds from the beginning of the source.
        part: `part(low, high)` returns samples `low` to `high`, `(high - low,)` float32, full scale -1..1; raises
            `MediaError` when a long file turns out to be damaged.
    """

    num_samples: int
    start_s: float
    part: Callable[[int, int], Tensor]


def read_sound(
    source: object, *, sample_rate_hz: int, start_s: float | None = None, end_s: float | None = None
) -> Sound:
    """Read a sound as a whole; arguments and errors as `open_sound`."""
    sound = open_sound(source, sample_rate_hz=sample_rate_hz, start_s=start_s, end_s=end_s)
    return Sound(sound.part(0, sound.num_samples), sound.start_s)


def open_sound(
    source: object, *, sample_rate_hz: int, start_s: float | None = None, end_s: float | None = None
) -> Waveform:
    """Read a sound, average its channels and resample it; of a file longer than ten minutes only the parts asked for.

    Args:
        source: a sound file, a clip with a sound track (`a.mp4#t=1,2` is a part of it), an array or tensor `(S,)`,
            `(channels, S)` or `(S, channels)` already at `sample_rate_hz`, or with its rate as `read_mono` takes it.
        sample_rate_hz: rate of the result.
        start_s, end_s: part to keep, seconds; None: from the start, to the end.

    Raises:
        MediaError: when the source is absent, empty, damaged, of another type, without sound or not finite.
    """
    if isinstance(source, str | os.PathLike):
        named, start_s, end_s = split_span(str(source)).within(start_s, end_s)
        path = check_file(named, what=WHAT, suffixes=SOUND_SUFFIXES)
        name, whole = f"'{path}'", _of_file(path, sample_rate_hz)
    else:
        name, whole = "The array", _in_memory(_from_memory(source, sample_rate_hz), 0.0)
    offset_s, total = whole.start_s, whole.num_samples
    low = max(round(((start_s or 0.0) - offset_s) * sample_rate_hz), 0)
    high = total if end_s is None else min(max(round((end_s - offset_s) * sample_rate_hz), 0), total)
    if low >= high:
        seconds = offset_s + total / sample_rate_hz
        until = "on" if end_s is None else f"to {end_s:g} s"
        raise MediaError(
            f"{name} has no sound from {start_s or 0:g} s {until}; it lasts {seconds:g} s. A part must overlap "
            f"{offset_s:g}..{seconds:g} s. Change start_s and end_s."
        )
    return Waveform(high - low, offset_s + low / sample_rate_hz, lambda a, b: whole.part(low + a, low + b))


def _of_file(path: Path, rate_hz: int) -> Waveform:
    found = read_file(path, rate_hz=rate_hz)
    if isinstance(found, LongFile):
        return Waveform(found.num_samples, 0.0, lambda low, high: _finite(found.part(low, high), name=f"'{path}'"))
    samples, start_s = found
    return _in_memory(_finite(samples, name=f"'{path}'"), start_s)


def _finite(samples: Tensor, *, name: str) -> Tensor:
    if not bool(torch.isfinite(samples).all()):
        raise MediaError(
            f"{name} has values that are not finite. Samples are numbers in -1..1. Remove NaN and infinity first."
        )
    return samples


def _in_memory(samples: Tensor, start_s: float) -> Waveform:
    return Waveform(len(samples), start_s, lambda low, high: samples[low:high])


def _from_memory(source: object, rate_hz: int) -> Tensor:
    mono, given_hz = read_mono(source, rate_hz=rate_hz)
    own = _finite(torch.from_numpy(np.ascontiguousarray(mono)), name="The waveform")
    return own if given_hz == rate_hz else _resampled(mono, given_hz=given_hz, rate_hz=rate_hz)


def _resampled(mono: np.ndarray, *, given_hz: int, rate_hz: int) -> Tensor:
    """Resample float32 samples `(S,)`, however few."""
    resampler = av.AudioResampler(format="fltp", layout="mono", rate=rate_hz)
    # A sound shorter than the resampling filter would come out as nothing, so silence follows it and is cut off.
    behind = max(SHORTEST - len(mono), 0)
    frame = av.AudioFrame.from_ndarray(np.pad(mono, (0, behind))[None], format="fltp", layout="mono")
    frame.sample_rate = given_hz
    pieces = [*resampler.resample(frame), *resampler.resample(None)]
    found = [mean_of_channels(piece) for piece in pieces]
    samples = torch.from_numpy(np.concatenate(found) if found else np.zeros(0, np.float32))
    return samples[: math.ceil(len(mono) * rate_hz / given_hz)] if behind else samples


class LongFile(NamedTuple):
    """A sound file that is not decoded as a whole."""

    path: Path  # the file
    rate_hz: int  # rate of what is returned
    num_samples: int  # how many samples it has at that rate, by the time its last packet ends
    is_sought: bool = True  # whether a time can be sought in it: not where time stamps begin again or packets were lost

    def part(self, low: int, high: int) -> Tensor:
        """Return samples `low` to `high`, `(high - low,)` float32.

        They are those of the whole file, but for a shift of less than a sample where rates have no common grid, or of
        a millisecond where the container (Matroska) tells times no better.

        Raises:
            MediaError: when the file is damaged, or ends long before it says.
        """
        _require_samples(self.path, high - low)
        wanted = np.zeros(high - low, np.float32)
        reached = low
        for first, piece in self._pieces_from(low):
            kept = piece[max(low - first, 0) : max(high - first, 0)]
            begin = max(first - low, 0)
            wanted[begin : begin + len(kept)] = kept
            reached = max(reached, min(first + len(piece), high))
            if first + len(piece) >= high:
                break
        if high - reached > TOLERANCE_S * self.rate_hz:
            cause = f"it announces {self.num_samples / self.rate_hz:g} s and holds {reached / self.rate_hz:g} s"
            raise damaged(self.path, cause, what=WHAT, suffixes=SOUND_SUFFIXES)
        return torch.from_numpy(wanted)

    def _pieces_from(self, low: int) -> Iterator[tuple[int, np.ndarray]]:
        """Yield pieces and the number of their first sample, from some time before `low` on."""
        sought_s = low / self.rate_hz - BEFORE_S
        if sought_s > 0 and self.is_sought:
            with _opened(self.path) as (container, stream):
                if _seek(container, sought_s):
                    pieces = _placed(_frames(_Walk(container, stream), is_sought=True), rate_hz=self.rate_hz)
                    first = next(pieces, None)
                    if first is not None and first[0] <= low:
                        yield first
                        yield from pieces
                        return
        # It is the beginning, or the container cannot seek, or not exactly: packets are read, and few decoded.
        with _opened(self.path) as (container, stream):
            from_s = sought_s if sought_s > 0 else -math.inf
            yield from _placed(_frames(_Walk(container, stream), from_s=from_s), rate_hz=self.rate_hz)


def read_file(path: Path, *, rate_hz: int) -> LongFile | Sound:
    """Decode a file, or return it as it is when it lasts longer than `LONG_S`; mostly in one pass over it.

    Raises:
        MediaError: when it is damaged, has no sound, or holds no sample.
    """
    with _opened(path) as (container, stream):
        walk = _Walk(container, stream)
        says_long = (container.duration or 0) > LONG_S * av.time_base
        # Of some formats only the packets tell how long they last, so these are decoded until that is too long.
        is_told = not may_jump(container) and container.format.name not in ("aac", "flac")
        whole = None if says_long else _whole(walk, path, rate_hz=rate_hz, most_s=math.inf if is_told else LONG_S)
        if whole is not None:
            return whole
        end_s, is_sought = (_end_s(container, stream, path), True) if is_told else walk.finish()
        is_joined = container.format.name == "flac" and not is_sought  # packets without a time hold several frames
    if end_s <= LONG_S or is_joined:
        return decode_whole(path, rate_hz=rate_hz)
    return LongFile(path, rate_hz, round(end_s * rate_hz), is_sought)


def decode_whole(path: Path, *, rate_hz: int) -> Sound:
    """Return all samples, from the first that is heard on.

    Raises:
        MediaError: when the file is damaged, has no sound, or holds no sample.
    """
    with _opened(path) as (container, stream):
        found = _whole(_Walk(container, stream), path, rate_hz=rate_hz)
    assert found is not None, "without a bound it is never too long"
    return found


def _whole(walk: _Walk, path: Path, *, rate_hz: int, most_s: float = math.inf) -> Sound | None:
    """Decode from the beginning; None as soon as packets end behind `most_s`."""
    pieces: list[np.ndarray] = []
    few: list[av.AudioFrame] | None = []  # all frames, as long as no sample comes out of them
    end: int | None = None
    first_position = 0
    decoder = Decoder(walk.container)

    def heard() -> Iterator[_Timed]:
        for at_s, frame in _frames(walk, decoder=decoder):
            if few is not None:
                few.append(frame)
            yield at_s, frame

    frames = heard()
    first = next(frames, None)
    first_s = 0.0 if first is None else first[0] or 0.0
    for position, piece in _placed(frames if first is None else chain([first], frames), rate_hz=rate_hz):
        if walk.end_s > most_s:
            return None
        few = None if len(piece) else few
        if end is None:
            end = first_position = position
        _require_samples(path, max(position, end) + len(piece) - first_position)
        pieces += [np.zeros(max(position - end, 0), np.float32), piece[max(end - position, 0) :]]
        end = max(end, position + len(piece))
    if walk.end_s > most_s:
        return None
    if sum(map(len, pieces)) == 0:
        return Sound(_few_samples(few or [], path, rate_hz=rate_hz), first_s)
    _compare_length(walk.container, walk.stream, (end or 0) / rate_hz, path, is_whole=not decoder.lost_last)
    if decoder.num_lost:
        say_once(f"FFmpeg cannot decode {decoder.num_lost:,} packets of the sound of '{path}'. They are silent.")
    return Sound(torch.from_numpy(np.concatenate(pieces)), first_s)


def _require_samples(path: Path, num_samples: int) -> None:
    require_room(path, 4 * num_samples, f"{num_samples:,} samples or more at the rate they are read in")


def _few_samples(frames: Sequence[av.AudioFrame], path: Path, *, rate_hz: int) -> Tensor:
    """Return a sound that is shorter than the resampling filter; raises `MediaError` when it holds no sample at all."""
    to_float = av.AudioResampler(format="fltp")
    pieces = [piece for frame in frames for piece in to_float.resample(frame)]
    if not pieces:
        raise damaged(path, "it holds no sample", what=WHAT, suffixes=SOUND_SUFFIXES)
    mono, given_hz = np.concatenate([mean_of_channels(piece) for piece in pieces]), pieces[0].sample_rate
    samples = _resampled(mono, given_hz=given_hz, rate_hz=rate_hz)
    if not len(samples):
        cause = f"its {len(mono):,} samples at {given_hz:,} Hz give none at {rate_hz:,} Hz"
        raise damaged(path, cause, what=WHAT, suffixes=SOUND_SUFFIXES)
    return samples


_Timed = tuple[float | None, av.AudioFrame]
"""When a frame is heard, seconds from the beginning of the file, None: behind the one before; and the frame."""


class _Walk:
    """The packets of a sound in the order of the file, on one clock, and what they tell about the whole.

    Args:
        container, stream: opened.
    """

    def __init__(self, container: InputContainer, stream: av.AudioStream) -> None:
        self.container, self.stream = container, stream
        self.begin_s = origin_s(container)
        self.end_s = 0.0
        """When the last packet so far ends, seconds from the beginning of the file."""
        self._clock, self._is_corrupt = MediaClock(container, stream), False

    def packets(self) -> Iterator[av.Packet[Any]]:
        """Yield the packets from where the container is."""
        unit_s = float(self.stream.time_base or 1)
        for packet in _packets(self.container, self._clock.streams):
            self._clock.set(packet)
            if packet.stream.index == self.stream.index:
                if packet.pts is not None:
                    self.end_s = max(self.end_s, (packet.pts + (packet.duration or 0)) * unit_s - self.begin_s)
                    self._is_corrupt |= packet.is_corrupt
                yield packet

    def finish(self) -> tuple[float, bool]:
        """Go on to the end; return when the last packet ends, and whether times can be sought in the file."""
        for _ in self.packets():
            pass
        return self.end_s, not (self._clock.num_jumps or self._clock.is_corrected or self._is_corrupt)


def _frames(
    walk: _Walk, *, from_s: float = -math.inf, is_sought: bool = False, decoder: Decoder | None = None
) -> Iterator[_Timed]:
    """Decode from where the container is, which was sought or is its beginning; what is before `from_s` is not.

    What comes first may have a time before the beginning: the decoder needs it to settle, and cuts it off.
    """
    decoder = decoder or Decoder(walk.container)
    begin_s, unit_s = walk.begin_s, float(walk.stream.time_base or 1)
    is_raw, is_first, num_lost = walk.container.format.name in RAW_FORMATS, True, 0
    for packet in walk.packets():
        if packet.pts is not None and packet.pts * unit_s - begin_s < from_s:
            continue
        for frame in decoder.frames(packet):
            if is_first and frame.time is None and (is_sought or from_s > 0):
                continue  # nobody knows where that is
            is_timed = frame.time is not None and (is_first or not is_raw or decoder.num_lost > num_lost)
            yield max(frame.time - begin_s, 0.0) if is_timed else None, frame
            is_first, num_lost = False, decoder.num_lost


def _placed(frames: Iterable[_Timed], *, rate_hz: int) -> Iterator[tuple[int, np.ndarray]]:
    """Resample frames and yield pieces with the number of their first sample; between pieces is silence.

    A new resampler begins behind a gap and where rate, format or channels change; it is FFmpeg's way to settle.
    """
    resampler: av.AudioResampler | None = None
    kind: tuple[object, ...] = ()
    position = 0
    due_s: float | None = None  # when the next frame is heard if nothing lacks

    def out(heard: av.AudioFrame | None) -> Iterator[tuple[int, np.ndarray]]:
        nonlocal position
        for resampled in resampler.resample(heard) if resampler is not None else ():
            yield position, mean_of_channels(resampled)
            position += resampled.samples

    for at_s, frame in frames:
        lasts_s = frame.samples / frame.sample_rate
        own = (frame.format.name, frame.layout.name, frame.layout.nb_channels, frame.sample_rate)
        least_s = min(max(0.9 * lasts_s, LEAST_GAP_S), MOST_GAP_S)
        is_apart = at_s is not None and (due_s is None or abs(at_s - due_s) > least_s)
        if is_apart or own != kind:
            yield from out(None)
            resampler, kind = av.AudioResampler(format="fltp", rate=rate_hz), own
        if at_s is not None and is_apart:
            position, due_s = round(at_s * rate_hz), at_s
        due_s = (due_s or 0.0) + lasts_s
        yield from out(frame)
    yield from out(None)


@contextmanager
def _opened(path: Path) -> Iterator[tuple[InputContainer, av.AudioStream]]:
    with open_container(path, what=WHAT, suffixes=SOUND_SUFFIXES) as container:
        streams = [stream for stream in container.streams if isinstance(stream, av.AudioStream)]
        if not streams and not any(isinstance(stream, av.VideoStream) for stream in container.streams):
            raise damaged(path, "it holds neither pictures nor sound", what=WHAT, suffixes=SOUND_SUFFIXES)
        if not streams:
            raise MediaError(
                f"'{path}' has no sound track. A sound is read from sound files and from clips that have one. "
                "Name another file, or leave this modality out for this sample."
            )
        if streams[0].codec_context is None:
            raise MediaError(
                f"'{path}' has sound in a coding that this FFmpeg (PyAV {av.__version__}) cannot decode. Accepted are "
                "those it knows. Convert the sound: ffmpeg -i FILE sound.wav"
            )
        rate_hz = streams[0].rate or 0
        if not LOWEST_HZ <= rate_hz <= HIGHEST_HZ:
            raise MediaError(
                f"'{path}' states {rate_hz:,} samples a second, which is no rate of a sound; its header may be "
                f"damaged. Accepted are {LOWEST_HZ:,} to {HIGHEST_HZ:,}. Write or download the file again, or state "
                "the true rate: ffmpeg -ar RATE -f s16le -i DATA sound.wav"
            )
        yield container, streams[0]


def _compare_length(
    container: InputContainer, stream: av.AudioStream, end_s: float, path: Path, *, is_whole: bool
) -> None:
    """Compare what a file holds with what it says; only FLAC counts its samples beforehand."""
    told_s = float(stream.duration * (stream.time_base or 1)) if stream.duration else 0.0
    if container.format.name != "flac" or end_s >= told_s - TOLERANCE_S:
        return
    if not is_whole:
        cause = f"it is cut short, {end_s:g} of {told_s:g} s"
        raise damaged(path, cause, what=WHAT, suffixes=SOUND_SUFFIXES)
    # Parts that are cut out without encoding keep the count of the whole.
    say_once(f"'{path}' announces {told_s:g} s and holds {end_s:g} s. What it holds is read.")


def _packets(container: InputContainer, streams: Sequence[av.VideoStream | av.AudioStream]) -> Iterator[av.Packet[Any]]:
    """Yield packets while there is time, and refuse files whose packets announce more samples than they hold.

    Raises:
        MediaError: when time is over, or more packets than the end of a track has are too short.
    """
    path, num_short = Path(container.name), 0
    for packet in in_time(path, container.demux(streams)):
        held = _num_held(packet)
        told = round((packet.duration or 0) * float(packet.time_base or 1) * _rate_of(packet)) if held else 0
        num_short += bool(held) and 10 * (held or 0) < 9 * told
        if num_short > MOST_SHORT:
            cause = f"its packets announce {told:,} samples each and hold {held:,}"
            raise damaged(path, cause, what=WHAT, suffixes=SOUND_SUFFIXES)
        yield packet


def _num_held(packet: av.Packet[Any]) -> int | None:
    """Return how many samples a packet holds; None where only decoding tells, as of every coding but plain numbers."""
    context = packet.stream.codec_context
    if not isinstance(context, av.AudioCodecContext) or not context.name.startswith("pcm_"):
        return None
    bits = _PLAIN.match(context.name)
    return packet.size * 8 // (int(bits[1]) * context.channels) if bits and context.channels else None


def _rate_of(packet: av.Packet[Any]) -> int:
    return packet.stream.rate or 0 if isinstance(packet.stream, av.AudioStream) else 0


def _end_s(container: InputContainer, stream: av.AudioStream, path: Path) -> float:
    """Return when the last packet of sound ends; none is decoded. The track may be shorter than the container says."""
    unit_s, begin_s = float(stream.time_base or 1), origin_s(container)
    if _seek(container, (container.duration or 0) / av.time_base - NEAR_END_S):
        ends = [
            packet.pts + (packet.duration or 0) for packet in _packets(container, [stream]) if packet.pts is not None
        ]
        if ends:
            return max(ends) * unit_s - begin_s
    with _opened(path) as (anew, whole):
        return _Walk(anew, whole).finish()[0]


def _seek(container: InputContainer, sought_s: float) -> bool:
    """Go to a time, seconds from the beginning of the file; False where the container cannot."""
    try:
        container.seek(int((origin_s(container) + sought_s) * av.time_base), backward=True)
    except av.error.FFmpegError:
        return False
    return True


MOST_PLANES = 8
"""Channels of a frame that PyAV reaches where each has a plane of its own; it reads beyond the end for the ninth."""


def mean_of_channels(frame: av.AudioFrame) -> np.ndarray:
    """Return `(S,)` float32, the mean over channels, as the released code has it."""
    if frame.format.is_planar and frame.layout.nb_channels > MOST_PLANES:
        raise MediaError(
            f"The sound has {frame.layout.nb_channels} channels. At most {MOST_PLANES} are read, because PyAV crashes "
            "on more. Mix them: ffmpeg -i FILE -ac 1 sound.wav"
        )
    # FFmpeg's own mixing of float stereo would be 3 dB louder.
    return np.asarray(frame.to_ndarray().mean(axis=0, dtype=np.float32))
