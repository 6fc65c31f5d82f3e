"""Bounds on what one source may take: bytes of what it holds once it is decoded, and seconds of reading it.

A picture of half a megabyte may have 169 million pixels, and a header of forty bytes may announce 10^12 points. What a
header announces is compared with the bound before anything is decoded; what no header tells is counted on the way.

The bounds are environment variables, as those of other programs that decode media (OPENCV_IO_MAX_IMAGE_PIXELS): sources
are read in worker processes and in the code of packages, by verbs, scripts and notebooks alike, and an environment
variable reaches all of them. They are looked at anew for every source.

| variable | bounds | default |
|---|---|---|
| `CREMA_MAX_SOURCE_BYTES` | bytes of the decoded numbers: `3e9`, `500MB`, `4GiB`; 0: no bound | `2GiB` |
| `CREMA_MAX_SOURCE_S` | seconds; 0: no bound | `300` |

Seconds are counted from one call of `prepare` on, and looked at between frames and packets. Code of a decoder cannot be
interrupted: in processes of their own (`num_workers`, `crema data check --deep`) it is ended a little later.
"""

from __future__ import annotations

import math
import os
import re
import signal
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache
from pathlib import Path
from typing import TypeVar

from crema_core.common.reading import shown
from crema_core.errors import MediaError, OptionsError

MAX_BYTES, MAX_SECONDS = "CREMA_MAX_SOURCE_BYTES", "CREMA_MAX_SOURCE_S"
DEFAULT_BYTES, DEFAULT_S = 2 * 2**30, 300.0
GRACE_S = 10.0
"""How much longer, at most, a process goes on whose decoder does not return: what returns states its error itself."""
_UNITS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12, "ki": 2**10, "mi": 2**20, "gi": 2**30, "ti": 2**40}
_SIZE = re.compile(r"\s*([0-9.]+(?:e[0-9]+)?)\s*([kmgt]?i?)b?\s*", re.IGNORECASE)
_until: ContextVar[float] = ContextVar("_until", default=math.inf)
_Item = TypeVar("_Item")


def max_bytes() -> float:
    """Return how many bytes one source may have once it is decoded; infinite where there is no bound.

    Raises:
        OptionsError: when the environment variable is no size.
    """
    return _size_of(os.environ.get(MAX_BYTES, "")) or math.inf


def max_seconds() -> float:
    """Return how many seconds one source may take; infinite where there is no bound.

    Raises:
        OptionsError: when the environment variable is no number.
    """
    return _seconds_of(os.environ.get(MAX_SECONDS, "")) or math.inf


def require_bounds() -> None:
    """Refuse bounds that are none before work begins, and not in the words of a reader that trips over them.

    Raises:
        OptionsError: when an environment variable is no bound.
    """
    max_bytes()
    max_seconds()


def bounds_changed() -> str:
    """Return the bounds where they are not the default, as text that is another one for other bounds; else ""."""
    bounds = max_bytes(), max_seconds()
    return "" if bounds == (DEFAULT_BYTES, DEFAULT_S) else f"{bounds[0]:.0f} bytes, {bounds[1]:g} s"


def require_room(path: str | os.PathLike[str], num_bytes: int, announced: str) -> None:
    """Refuse what needs more memory than one source may take.

    Args:
        path: the file.
        num_bytes: of what would be read of it.
        announced: what that is, for the message: "4 pictures of 640 x 480 pixels".

    Raises:
        MediaError: naming the file, the size and the setting.

    Example:
        >>> require_room("scan.ply", 24_000_000_000, "1,000,000,000 points")  # doctest: +IGNORE_EXCEPTION_DETAIL
        Traceback (most recent call last):
        MediaError: 'scan.ply' holds 1,000,000,000 points, which take 24 GB once they are decoded. ...
    """
    most = max_bytes()
    if num_bytes > most:
        raise MediaError(
            f"{shown(path)} holds {announced}: {as_size(num_bytes)} once decoded. At most {as_size(most)} of one "
            f"source are read, so that a damaged or hostile file cannot fill the memory. Make it smaller, or allow it "
            f"with the environment variable: export {MAX_BYTES}={_next_size(num_bytes)}"
        )


def require_size(path: Path) -> None:
    """Refuse a file that is read as a whole and has more bytes than one source may take.

    Raises:
        MediaError: naming the file, the size and the setting.
    """
    size = path.stat().st_size
    require_room(path, size, f"{size:,} bytes")


def as_size(num_bytes: float) -> str:
    """Return a number of bytes as text.

    Example:
        >>> as_size(24_000_000_000), as_size(512)
        ('24 GB', '512 bytes')
    """
    for unit, name in ((10**12, "TB"), (10**9, "GB"), (10**6, "MB")):
        if num_bytes >= unit:
            number = num_bytes / unit
            return f"{number:.1f}".rstrip("0").rstrip(".") + f" {name}" if number < 100 else f"{number:,.0f} {name}"
    return f"{num_bytes:,.0f} bytes"


def _next_size(num_bytes: int) -> str:
    return f"{math.ceil(num_bytes / 10**9)}GB" if num_bytes > 10**9 else f"{math.ceil(num_bytes / 10**6)}MB"


@contextmanager
def timed() -> Iterator[None]:
    """Count the seconds of a source from here on; what is inside another block has no clock of its own.

    Raises:
        OptionsError: when a bound is none.
    """
    require_bounds()
    if _until.get() < math.inf:
        yield
        return
    token = _until.set(time.monotonic() + max_seconds())
    try:
        yield
    finally:
        _until.reset(token)


def in_time(path: str | os.PathLike[str], pieces: Iterable[_Item]) -> Iterator[_Item]:
    """Yield packets or frames of a file while there is time left for it.

    Raises:
        MediaError: naming the file and the setting.
    """
    for piece in pieces:
        require_time(path)
        yield piece


def require_time(path: str | os.PathLike[str]) -> None:
    """Raise when a source has taken longer than it may.

    Raises:
        MediaError: naming the file and the setting.
    """
    if time.monotonic() > _until.get():
        raise MediaError(f"{shown(path)} {too_slow()}")


def too_slow() -> str:
    """Return the rest of a sentence about a source that took too long, and what to do."""
    limit_s = max_seconds()
    return (
        f"takes longer than {limit_s:g} s to read. One source may take that long, so that a damaged or hostile file "
        "cannot hold everything up. Cut or convert it, or allow more with the environment variable: export "
        f"{MAX_SECONDS}={max(round(2 * limit_s), 1)}"
    )


@contextmanager
def ending_process() -> Iterator[None]:
    """End this process by SIGALRM when the block takes much longer than a source may, also inside a decoder.

    For processes that do nothing else but read. Where the system has no such signal nothing is done.
    """
    limit_s = max_seconds()
    if sys.platform == "win32" or limit_s == math.inf:
        yield
        return
    # Python's own handlers run between two lines of Python, which a decoder that hangs never reaches.
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.setitimer(signal.ITIMER_REAL, limit_s + min(limit_s, GRACE_S))
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)


def how_it_ended(exitcode: int | None) -> str:
    """Return how a process ended that read a source, and what that means, the rest of a sentence.

    Args:
        exitcode: as `multiprocessing` has it: negative for a signal.
    """
    if exitcode is None or exitcode >= 0:
        return f"ended the process that read it (exit code {exitcode})"
    name = _signal_name(-exitcode)
    if name == "SIGALRM":
        return f"took longer than {max_seconds():g} s, and the process that read it was ended ({MAX_SECONDS})"
    meaning = {"SIGKILL": ": by the system, mostly because memory ran out, or by somebody"}.get(name, "")
    return f"ended the process that read it ({name}{meaning})"


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


@cache
def _size_of(text: str) -> float:
    if not text.strip():
        return DEFAULT_BYTES
    found = _SIZE.fullmatch(text)
    try:
        if found is None:
            raise ValueError
        return float(found[1]) * _UNITS[found[2].lower()]
    except (ValueError, KeyError) as error:
        raise OptionsError(
            f"{MAX_BYTES} is {text!r}. Accepted is a number of bytes, also with a unit, or 0 for no bound. Write "
            f"export {MAX_BYTES}=4GB"
        ) from error


@cache
def _seconds_of(text: str) -> float:
    if not text.strip():
        return DEFAULT_S
    try:
        seconds = float(text)
        if not 0 <= seconds < math.inf:
            raise ValueError
    except ValueError as error:
        raise OptionsError(
            f"{MAX_SECONDS} is {text!r}. Accepted is a number of seconds, or 0 for no bound. Write export "
            f"{MAX_SECONDS}=600"
        ) from error
    return seconds
