"""Read sound as one channel at one rate, from sound files, from the sound track of a clip, or from memory."""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import av
import numpy as np
import torch
from torch import Tensor

from crema_core.data.files import check_file, damaged, wrong_source
from crema_core.data.sound_file import SOUND_SUFFIXES, WHAT, decode_whole, long_file, mean_of_channels
from crema_core.data.span import split_span
from crema_core.errors import MediaError

SHORTEST = 1024
"""Samples that every resampling filter gives an output for."""


class Sound(NamedTuple):
    """A mono waveform.

    Attributes:
        samples: `(S,)` float32, full scale is -1..1.
        start_s: when the first sample is heard, seconds from the beginning of the source.
    """

    samples: Tensor
    start_s: float


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
