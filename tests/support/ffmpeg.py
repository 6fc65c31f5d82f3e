"""The ffmpeg program, the independent reference for what a media file shows and when."""

from __future__ import annotations

import shutil
import subprocess
from functools import cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest

RATE_HZ = 16_000
CLOCK = 90_000
"""Ticks in a second of the times asked for."""


@cache
def program() -> str | None:
    """Return the ffmpeg program: the system's, or the one imageio-ffmpeg ships; None where there is neither."""
    if found := shutil.which("ffmpeg"):
        return found
    try:
        from imageio_ffmpeg import get_ffmpeg_exe
    except ImportError:
        return None
    return str(get_ffmpeg_exe())


needs_ffmpeg = pytest.mark.skipif(program() is None, reason="needs ffmpeg: pip install imageio-ffmpeg")


def ffmpeg(*words: object, folder: Path | None = None) -> bytes:
    """Run ffmpeg and return what it writes to its standard output."""
    line = [str(program()), "-nostdin", "-y", "-loglevel", "error", *map(str, words)]
    return subprocess.run(line, check=True, capture_output=True, cwd=folder).stdout


# ffmpeg begins its clock with the streams that it uses, so all are used.
_CLOCK = ("-map", "0:v?", "-map", "0:a?", "-c", "copy", "-f", "null", "/dev/null")


class Shown(NamedTuple):
    """What ffmpeg shows of a clip."""

    starts_s: list[float]  # when each picture appears
    finish_s: float  # when the last one disappears
    pictures: np.ndarray  # `(T, H, W, 3)` uint8


def shown(path: Path) -> Shown:
    """Return every picture of a clip with its time, seconds from the beginning of the file."""
    each = ("-map", "0:v:0", "-fps_mode", "passthrough", "-pix_fmt", "rgb24", "-c:v", "rawvideo")
    timed = ffmpeg("-i", path, *each, "-enc_time_base", f"1:{CLOCK}", "-f", "framecrc", "-", *_CLOCK).decode()
    head = next(line for line in timed.splitlines() if line.startswith("#dimensions 0:"))
    width, height = map(int, head.split(":")[1].split("x"))
    rows = [line.split(",") for line in timed.splitlines() if not line.startswith("#")]
    starts = [int(row[2]) / CLOCK for row in rows]
    pixels = ffmpeg("-i", path, *each, "-f", "rawvideo", "-")
    pictures = np.frombuffer(pixels, np.uint8).reshape(-1, height, width, 3)
    assert len(pictures) == len(starts)
    return Shown(starts, starts[-1] + int(rows[-1][3]) / CLOCK, pictures)


def heard(path: Path, *, has_changes: bool = False) -> np.ndarray:
    """Return the sound `(S,)` float32 from the beginning of the file on, channels averaged.

    Args:
        path: the file.
        has_changes: its rate or channels change; ffmpeg's filter would fill in silence again at every change. Gaps are
            filled with silence otherwise.
    """
    filled = "" if has_changes else "aresample=async=1:first_pts=0:min_hard_comp=0.02,"
    sound = f"{filled}aresample={RATE_HZ},aformat=sample_fmts=flt:channel_layouts=mono"
    words = ("-i", path, "-map", "0:a:0", "-af", sound, "-f", "f32le", "-", *_CLOCK)
    return np.frombuffer(ffmpeg(*words), np.float32)
