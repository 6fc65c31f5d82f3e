"""One ascending clock for the pictures and the sound of a file, and opening the file for both of their readers.

Time stamps begin again where recordings were joined (`cat a.ts b.ts`) or a sender started anew. As the ffmpeg program
does, everything from there on is moved so that it follows what came before, pictures and sound by the same amount.
"""

from __future__ import annotations

import logging
import os
import traceback
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import av
from av.container import InputContainer

from crema_core.data.files import accepts, damaged
from crema_core.data.whole_file import cut_short
from crema_core.errors import MediaError

logger = logging.getLogger(__name__)

BACK_S = 0.1
"""Decoding times that go back by more begin again."""
AHEAD_S = 10.0
"""In formats whose time stamps may jump, a longer way ahead is such a jump and no pause."""
_MAY_JUMP = 0x0200
"""FFmpeg's flag of formats whose time stamps may jump (AVFMT_TS_DISCONT): transport and program streams, Ogg."""
_LOSSY = ("mpegts", "mpeg", "mp3", "aac", "ogg", "flac")
"""Formats made for transmission or played from anywhere: what cannot be decoded is left out, as players do."""

_ADTS_HZ = (96_000, 88_200, 64_000, 48_000, 44_100, 32_000, 24_000, 22_050, 16_000, 12_000, 11_025, 8_000, 7_350)


@contextmanager
def open_container(path: Path, *, what: str, suffixes: Iterable[str]) -> Iterator[InputContainer]:
    """Open a clip or sound.

    Args:
        path: the file.
        what, suffixes: as `check_file`, for messages.

    Raises:
        MediaError: when the file is cut short, or when FFmpeg finds damage, here or inside the block.
    """
    if cause := cut_short(path):
        raise damaged(path, cause, what=what, suffixes=suffixes)
    try:
        with av.open(str(path), metadata_errors="replace") as container:
            yield container
    except (av.error.PatchWelcomeError, av.error.DecoderNotFoundError, av.error.DemuxerNotFoundError) as error:
        raise MediaError(
            f"'{path}' cannot be read: FFmpeg (PyAV {av.__version__}) reports '{error.strerror}'. It need not be "
            f"damaged; this release cannot decode it. {accepts(what, suffixes)} Convert it with another program."
        ) from error
    except IndexError as error:
        if not _is_of_library(error):
            raise
        cause = "a stream begins in the middle of it that its beginning does not name"
        raise damaged(path, cause, what=what, suffixes=suffixes) from error
    except av.error.PermissionError as error:
        if os.access(path, os.R_OK):
            raise damaged(path, f"FFmpeg reports '{error.strerror}'", what=what, suffixes=suffixes) from error
        raise MediaError(
            f"'{path}' may not be read by this user. {accepts(what, suffixes)} Change its permissions."
        ) from error
    except av.error.FFmpegError as error:
        raise damaged(path, f"FFmpeg reports '{error.strerror}'", what=what, suffixes=suffixes) from error


def _is_of_library(error: BaseException) -> bool:
    """Return whether PyAV raised an error, in code without Python sources."""
    frames = traceback.extract_tb(error.__traceback__)
    return bool(frames) and frames[-1].filename.startswith("av/")


def origin_s(container: InputContainer) -> float:
    """Return the time stamp in seconds of what comes first in a file, picture or sound; times are counted from it."""
    return container.start_time / av.time_base if container.start_time is not None else 0.0


def may_jump(container: InputContainer) -> bool:
    """Return whether the time stamps of a file of this format may jump."""
    return bool(int(container.format.flags) & _MAY_JUMP)


class MediaClock:
    """Moves the time stamps of packets so that they never begin again.

    Every packet of `streams` is shown to it in the order of the file, from the beginning on.

    Example:
        >>> with av.open("joined.ts") as container:                       # doctest: +SKIP
        ...     clock = MediaClock(container)
        ...     for packet in container.demux(clock.streams):
        ...         clock.set(packet)
    """

    def __init__(self, container: InputContainer, stream: av.VideoStream | av.AudioStream) -> None:
        self._may_jump = may_jump(container)
        # An MP4 file has one clock, and packets that an edit list leaves out go back on it.
        self._never_jumps = container.format.name.startswith("mov")
        own = [other for other in container.streams if isinstance(other, av.VideoStream | av.AudioStream)]
        self.streams = own if self._may_jump else [stream]
        """Streams whose packets tell the time; only formats that may jump need the others."""
        self.moved_s = 0.0
        """By how much later packets are, in seconds; 0 until stamps begin again."""
        self.num_jumps = 0
        self.is_corrected = False
        """Whether time stamps were guessed by the container from a rate that does not hold."""
        self._last_s: dict[int, float] = {}
        self._next_s: dict[int, float] = {}
        self._guess: dict[int, int] = {}
        self._units_s: dict[int, float] = {}

    def set(self, packet: av.Packet[Any]) -> None:
        """Move the time stamps of a packet."""
        number = packet.stream_index
        unit_s = self._units_s.get(number)
        if unit_s is None:  # a fraction of Python, which takes longer than all the rest
            unit_s = self._units_s[number] = float(packet.time_base or 1)
        if packet.dts is None:  # presentation times go to and fro, so they tell nothing
            if number in self._next_s:
                self._next_s[number] += (packet.duration or 0) * unit_s
            if self.num_jumps:
                self._move(packet, self.moved_s)
            return
        lasts_s = (packet.duration or 0) * unit_s
        stamped_s = packet.dts * unit_s
        true_s = _adts_duration_s(packet) or lasts_s
        self.is_corrected |= abs(true_s - lasts_s) > 2 * unit_s
        is_guess = self.is_corrected and abs(self._guess.get(number, packet.dts - 9) - packet.dts) <= 1
        self._guess[number] = packet.dts + (packet.duration or 0)
        at_s = self._next_s[number] if is_guess else stamped_s + self.moved_s
        if not is_guess and self._is_jump(number, at_s):
            due_s = self._next_s.get(number, max(self._next_s.values()))
            self.moved_s += due_s - at_s
            self.num_jumps += 1
            at_s = due_s
        self._last_s[number], self._next_s[number] = at_s, at_s + true_s
        if self.num_jumps or self.is_corrected:
            self._move(packet, at_s - stamped_s)

    @staticmethod
    def _move(packet: av.Packet[Any], by_s: float) -> None:
        moved = round(by_s / float(packet.time_base or 1))
        packet.dts = None if packet.dts is None else packet.dts + moved
        packet.pts = None if packet.pts is None else packet.pts + moved

    def _is_jump(self, number: int, at_s: float) -> bool:
        if self._never_jumps:
            return False
        if number in self._last_s:
            is_ahead = self._may_jump and at_s > self._next_s[number] + AHEAD_S
            return is_ahead or at_s < self._last_s[number] - BACK_S
        # A stream that begins late, perhaps behind a jump.
        return bool(self._next_s) and abs(at_s - max(self._next_s.values())) > AHEAD_S


def _adts_duration_s(packet: av.Packet[Any]) -> float | None:
    """Return the seconds a packet of AAC lasts by its own header (ISO/IEC 13818-7, 6.2); None for other packets.

    Containers that give few packets a time stamp guess the others from the rate at the beginning of the stream.
    """
    if not isinstance(packet.stream, av.AudioStream) or packet.size < 7:
        return None
    if packet.stream.codec_context is None or packet.stream.codec_context.name != "aac":
        return None
    head = bytes(memoryview(packet)[:7])
    rate = head[2] >> 2 & 15
    if head[0] != 0xFF or head[1] & 0xF6 != 0xF0 or rate >= len(_ADTS_HZ):
        return None
    return 1024 * (1 + (head[6] & 3)) / _ADTS_HZ[rate]


class Decoder:
    """Decodes packets of one stream and counts those that cannot be.

    What comes before the first frame cannot be decoded where a file begins inside a group of pictures, and is left out.
    Later errors are left out in formats made for lossy transmission; in others the file is damaged.
    """

    def __init__(self, container: InputContainer) -> None:
        self._is_lossy = container.format.name in _LOSSY
        self._has_decoded = False
        self.num_lost = 0
        """Packets left out that came after the first frame."""
        self.lost_last = False
        """Whether the last packet was left out: where a file is cut short, it is not whole."""

    def frames(self, packet: av.Packet[Any]) -> list[Any]:
        """Return the frames that come out for a packet.

        Raises:
            FFmpegError: when the file is damaged.
        """
        try:
            frames = packet.decode()
        except av.error.FFmpegError:
            if self._has_decoded and not self._is_lossy:
                raise
            self.num_lost += self._has_decoded
            self.lost_last = self._has_decoded
            return []
        if packet.size:
            self.lost_last = False
        self._has_decoded |= bool(frames)
        return frames


@cache
def say_once(text: str) -> None:
    """Log a warning about a file, once."""
    logger.warning("%s", text)
