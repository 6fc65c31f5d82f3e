"""Sound as one channel at one rate, from sound files, from the sound track of a clip, or from memory.

Files are decoded through PyAV: the whole of one, or parts of a long one without what lies between them.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import chain
from pathlib import Path
from typing import NamedTuple

import av
import numpy as np
import torch
from av.container import InputContainer
from torch import Tensor

from crema_core.data.media import SOUND_SUFFIXES, check_file, damaged, wrong_source
from crema_core.data.sampling import split_span
from crema_core.errors import MediaError

SHORTEST = 1024
"""Samples that every resampling filter gives an output for."""
WHAT = "a sound"
LONG_S = 600.0
"""Files that say they last longer are read in parts; shorter ones are decoded once, whole."""
BEFORE_S = 0.5
"""Decoded before a part and thrown away, so that decoder and resampling filter have settled when it begins."""
NEAR_END_S = 10.0
"""How long before its end a file's last packets are looked for."""
TOLERANCE_S = 0.25
"""What a file may hold less than it says; it is silence then."""


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
        source: a sound file, a clip with a sound track (`a.mp4#t=1,2` is a part of it), an array or tensor `(S,)` or
            `(channels, S)` already at `sample_rate_hz`, or a pair `(array, rate_hz)`.
        sample_rate_hz: rate of the result.
        start_s, end_s: part to keep, seconds; None: from the start, to the end.

    Raises:
        MediaError: when the source is absent, empty, damaged, of another type, without sound or not finite.
    """
    if isinstance(source, str | os.PathLike):
        named, start_s, end_s = split_span(str(source)).within(start_s, end_s)
        path = check_file(named, what=WHAT, suffixes=SOUND_SUFFIXES)
        _refuse_cut_wave(path)
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
    long = long_file(path, rate_hz=rate_hz)
    if long is not None:
        return Waveform(long.num_samples, 0.0, lambda low, high: _finite(long.part(low, high), name=f"'{path}'"))
    samples, start_s = decode_whole(path, rate_hz=rate_hz)
    return _in_memory(_finite(samples, name=f"'{path}'"), start_s)


def _finite(samples: Tensor, *, name: str) -> Tensor:
    if not bool(torch.isfinite(samples).all()):
        raise MediaError(
            f"{name} has values that are not finite. Samples are numbers in -1..1. Remove NaN and infinity first."
        )
    return samples


def _in_memory(samples: Tensor, start_s: float) -> Waveform:
    return Waveform(len(samples), start_s, lambda low, high: samples[low:high])


def _refuse_cut_wave(path: Path) -> None:
    """Refuse a RIFF file that says it is longer than it is: FFmpeg reads what is left without a word."""
    with path.open("rb") as file:
        head = file.read(8)
    size = path.stat().st_size
    told = int.from_bytes(head[4:], "little") + 8
    if head[:4] == b"RIFF" and size < told < 2**31:  # streamed files say 2^31 and more: unknown
        cause = f"it is cut short, {size} of {told} bytes"
        raise damaged(path, cause, what=WHAT, suffixes=SOUND_SUFFIXES)


def _from_memory(source: object, rate_hz: int) -> Tensor:
    given_hz = rate_hz
    values = source
    if isinstance(source, tuple) and len(source) == 2 and isinstance(source[1], int | float):
        values, given_hz = source[0], int(source[1])
    if isinstance(values, torch.Tensor):
        values = values.detach().cpu().numpy()
    legal = isinstance(values, np.ndarray) and values.ndim in (1, 2) and values.size > 0 and given_hz > 0
    if not legal or not isinstance(values, np.ndarray) or values.dtype.kind not in "fi":
        raise wrong_source(
            values,
            what=WHAT,
            accepted="a path, an array (S,) or (channels, S) of floats in -1..1 or int16, or a pair (array, rate_hz)",
            advice="Pass one of these.",
        )
    scale = 1.0 if values.dtype.kind == "f" else float(np.iinfo(values.dtype).max) + 1.0
    mono = (values if values.ndim == 1 else values.mean(axis=0)).astype(np.float32) / np.float32(scale)
    own = _finite(torch.from_numpy(np.ascontiguousarray(mono)), name="The waveform")
    if given_hz == rate_hz:
        return own
    resampler = av.AudioResampler(format="fltp", layout="mono", rate=rate_hz)
    # A sound shorter than the resampling filter would come out as nothing, so silence follows it and is cut off.
    behind = max(SHORTEST - len(mono), 0)
    frame = av.AudioFrame.from_ndarray(np.pad(mono, (0, behind))[None], format="fltp", layout="mono")
    frame.sample_rate = given_hz
    pieces = [*resampler.resample(frame), *resampler.resample(None)]
    samples = torch.from_numpy(np.concatenate([mean_of_channels(piece) for piece in pieces]))
    return samples[: math.ceil(len(mono) * rate_hz / given_hz)] if behind else samples


class LongFile(NamedTuple):
    """A sound file that is not decoded as a whole."""

    path: Path  # the file
    rate_hz: int  # rate of what is returned
    num_samples: int  # how many samples it has at that rate, by the time its last packet ends

    def part(self, low: int, high: int) -> Tensor:
        """Return samples `low` to `high`, `(high - low,)` float32.

        They are those of the whole file, but for a shift of less than a sample where rates have no common grid, or of
        a millisecond where the container (Matroska) tells times no better.

        Raises:
            MediaError: when the file is damaged, or ends long before it says.
        """
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
        if sought_s > 0:
            pieces = self._pieces(sought_s)
            first = next(pieces, None)
            if first is not None and first[0] <= low:
                yield first
                yield from pieces
                return
        yield from self._pieces(None)  # it is the beginning, or the container's seeking is not exact

    def _pieces(self, sought_s: float | None) -> Iterator[tuple[int, np.ndarray]]:
        resampler = av.AudioResampler(format="fltp", rate=self.rate_hz)
        with _opened(self.path) as (container, stream):
            origin_s = _origin_s(container)
            if sought_s is not None:
                container.seek(int((origin_s + sought_s) * av.time_base), backward=True)
            position: int | None = None
            for frame in chain(container.decode(stream), [None]):
                if frame is not None and position is None:
                    position = round(((frame.time or 0.0) - origin_s) * self.rate_hz)
                for out in resampler.resample(frame) if position is not None else ():
                    yield position or 0, mean_of_channels(out)
                    position = (position or 0) + out.samples


def long_file(path: Path, *, rate_hz: int) -> LongFile | None:
    """Return the file when it lasts longer than `LONG_S`, else None.

    Raises:
        MediaError: when it is damaged or has no sound.
    """
    with _opened(path) as (container, stream):
        if (container.duration or 0) <= LONG_S * av.time_base:
            return None
        end_s = _end_s(container, stream)
        return LongFile(path, rate_hz, round(end_s * rate_hz)) if end_s > LONG_S else None


def decode_whole(path: Path, *, rate_hz: int) -> tuple[Tensor, float]:
    """Return all samples `(S,)` and when the first is heard, in seconds from the beginning of the file.

    Raises:
        MediaError: when the file is damaged, has no sound, or holds no sample.
    """
    resampler = av.AudioResampler(format="fltp", rate=rate_hz)
    pieces: list[np.ndarray] = []
    first_s: float | None = None
    with _opened(path) as (container, stream):
        origin_s = _origin_s(container)
        for frame in container.decode(stream):
            if first_s is None:
                first_s = max((frame.time or 0.0) - origin_s, 0.0)
            pieces += [mean_of_channels(out) for out in resampler.resample(frame)]
        if pieces:
            pieces += [mean_of_channels(out) for out in resampler.resample(None)]
    if not pieces or sum(map(len, pieces)) == 0:
        raise damaged(path, "it holds no sample", what=WHAT, suffixes=SOUND_SUFFIXES)
    return torch.from_numpy(np.concatenate(pieces)), first_s or 0.0


@contextmanager
def _opened(path: Path) -> Iterator[tuple[InputContainer, av.AudioStream]]:
    try:
        with av.open(str(path), metadata_errors="replace") as container:
            streams = [stream for stream in container.streams if isinstance(stream, av.AudioStream)]
            if not streams and not any(isinstance(stream, av.VideoStream) for stream in container.streams):
                raise damaged(path, "it holds neither pictures nor sound", what=WHAT, suffixes=SOUND_SUFFIXES)
            if not streams:
                raise MediaError(
                    f"'{path}' has no sound track. A sound is read from sound files and from clips that have one. "
                    "Name another file, or leave this modality out for this sample."
                )
            yield container, streams[0]
    except av.error.FFmpegError as error:
        raise damaged(path, "the decoder found invalid data", what=WHAT, suffixes=SOUND_SUFFIXES) from error


def _end_s(container: InputContainer, stream: av.AudioStream) -> float:
    """Return when the last packet of sound ends; none is decoded. The track may be shorter than the container says."""
    unit_s, origin_s = float(stream.time_base or 1), _origin_s(container)
    last_s = origin_s + (container.duration or 0) / av.time_base
    for sought_s in (last_s - NEAR_END_S, origin_s):
        container.seek(int(sought_s * av.time_base), backward=True)
        ends = [packet.pts + (packet.duration or 0) for packet in container.demux(stream) if packet.pts is not None]
        if ends:
            return max(ends) * unit_s - origin_s
    return 0.0


def _origin_s(container: InputContainer) -> float:
    return container.start_time / av.time_base if container.start_time is not None else 0.0


def mean_of_channels(frame: av.AudioFrame) -> np.ndarray:
    """Return `(S,)` float32, the mean over channels, as the released code has it."""
    # FFmpeg's own mixing of float stereo would be 3 dB louder.
    return np.asarray(frame.to_ndarray().mean(axis=0, dtype=np.float32))
