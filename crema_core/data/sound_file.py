"""Decode sound files through PyAV: the whole of one, or parts of a long one without what lies between them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import chain
from pathlib import Path
from typing import NamedTuple

import av
import numpy as np
import torch
from av.container import InputContainer
from torch import Tensor

from crema_core.data.clips import CLIP_SUFFIXES
from crema_core.data.files import damaged
from crema_core.errors import MediaError

SOUND_SUFFIXES = (".wav", ".flac", ".mp3", ".ogg", ".opus", ".m4a", ".aac", *(s for s in CLIP_SUFFIXES if s != ".gif"))
WHAT = "a sound"
LONG_S = 600.0
"""Files that say they last longer are read in parts; shorter ones are decoded once, whole."""
BEFORE_S = 0.5
"""Decoded before a part and thrown away, so that decoder and resampling filter have settled when it begins."""
NEAR_END_S = 10.0
"""How long before its end a file's last packets are looked for."""
TOLERANCE_S = 0.25
"""What a file may hold less than it says; it is silence then."""


class LongFile(NamedTuple):
    """A sound file that is not decoded as a whole.

    Attributes:
        path: the file.
        rate_hz: rate of what is returned.
        num_samples: how many samples it has at that rate, by the time its last packet ends.
    """

    path: Path
    rate_hz: int
    num_samples: int

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
                    "Name another file, or leave this sense out for this sample."
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
