"""How long clips and sounds last, read from their containers."""

from __future__ import annotations

from pathlib import Path

import av

from crema_core.data.sound_file import SOUND_SUFFIXES

CLOCKED = SOUND_SUFFIXES
"""Endings of files that have a clock: sounds, and clips (animated pictures aside)."""


def length_s(path: str) -> float | None:
    """Return the seconds a clip or sound lasts; None for other files and for those that cannot be opened or do not say.

    A file that cannot be opened is found by reading it; here only lengths are compared.
    """
    if Path(path).suffix.lower() not in CLOCKED or not Path(path).is_file():
        return None
    try:
        with av.open(path, metadata_errors="replace") as container:
            return None if container.duration is None else container.duration / av.time_base
    except av.error.FFmpegError:
        return None
