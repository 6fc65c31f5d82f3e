"""Sounds from memory as every library gives them: one channel, full scale -1..1, with their rate.

soundfile and scipy return `(samples, channels)`, torchaudio and librosa `(channels, samples)`; scipy the rate first.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from crema_core.data.media import wrong_source
from crema_core.errors import MediaError

WHAT = "a sound"
MOST_CHANNELS = 32
"""No sound has more channels, and none has so few samples."""
ACCEPTED = (
    "a path, an array (S,), (channels, S) or (S, channels) of floats in -1..1, int16, int32 or uint8, or a pair of it "
    "and its rate"
)
_SCALES = {"int8": 2.0**7, "int16": 2.0**15, "int32": 2.0**31}

_NUMBERS = (int, float, np.integer, np.floating)


class Mono(NamedTuple):
    """A sound of one channel."""

    samples: NDArray[np.float32]  # `(S,)`, full scale is -1..1
    rate_hz: int


def read_mono(source: object, *, rate_hz: int) -> Mono:
    """Average the channels of a sound in memory.

    Args:
        source: an array or tensor `(S,)`, `(channels, S)` or `(S, channels)`; a pair `(array, rate_hz)` or `(rate_hz,
            array)`; or a mapping with "array" and "sampling_rate".
        rate_hz: rate of a sound that comes without one.

    Raises:
        MediaError: when it is no such sound, or its shape does not tell which dimension are the channels.
    """
    values, rate = _parts(source, rate_hz)
    if isinstance(values, torch.Tensor):
        values = values.detach().cpu().numpy()
    legal = isinstance(values, np.ndarray) and values.ndim in (1, 2) and values.size > 0 and rate > 0
    known = legal and (values.dtype.kind == "f" or values.dtype.name in (*_SCALES, "uint8"))
    if not known:
        raise wrong_source(values, what=WHAT, accepted=ACCEPTED, advice="Pass one of these.")
    mono = (values if values.ndim == 1 else values.mean(axis=_channels_of(values))).astype(np.float32)
    if values.dtype == np.uint8:  # 8-bit sound rests at 128
        return Mono((mono - np.float32(128)) / np.float32(128), rate)
    if values.dtype.kind != "f":
        return Mono(mono / np.float32(_SCALES[values.dtype.name]), rate)
    return Mono(mono, rate)


def _parts(source: object, rate_hz: int) -> tuple[Any, int]:
    if isinstance(source, Mapping) and {"array", "sampling_rate"} <= source.keys():
        return source["array"], int(source["sampling_rate"])
    if isinstance(source, tuple | list) and len(source) == 2:
        first, second = source
        if isinstance(second, _NUMBERS):
            return first, int(second)
        if isinstance(first, _NUMBERS):
            return second, int(first)
    return source, rate_hz


def _channels_of(values: NDArray[Any]) -> int:
    """Return the dimension of `(channels, S)` or `(S, channels)` that are the channels."""
    few = [axis for axis in (0, 1) if values.shape[axis] <= MOST_CHANNELS]
    if len(few) == 1:
        return few[0]
    if 1 in values.shape:
        return values.shape.index(1)
    why = "both are few enough for channels" if few else f"neither is at most {MOST_CHANNELS}"
    raise MediaError(
        f"A sound has shape {values.shape}, and which dimension are its channels cannot be told: {why}. Accepted: "
        f"(channels, S) or (S, channels) with at most {MOST_CHANNELS} channels and more samples. Pass one channel, "
        "values.mean(axis=0) of (channels, S) or values.mean(axis=1) of (S, channels)."
    )
