"""Radiometric jpegs: raw counts and calibration inside an ordinary picture; those of FLIR are read by flyr.

DJI's (R-JPEG) look the same and hold a coding of their own, which no library here reads.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from crema_core.data.media import is_cut, orientation_of, unreadable, upright
from crema_core.errors import MediaError

MARK = b"FLIR\x00"
SEARCHED = 1 << 16
WHAT, SUFFIXES = "a FLIR picture", (".jpg", ".jpeg")
DJI, DJI_SEGMENT = b"DJI", 0xE3
MEASURED_BYTES = 10_000
"""A segment APP3 of at least so many bytes holds DJI's measurements."""
PICTURE = "Set the option flir='picture' to take the finished picture, or save the temperatures as a tiff or .npz."


def is_flir(path: Path) -> bool:
    """Return whether a jpeg has FLIR's segment; the beginning of the file states so."""
    if path.suffix.lower() not in SUFFIXES:
        return False
    with path.open("rb") as file:
        return MARK in file.read(SEARCHED)


def read_flir(path: Path) -> NDArray[np.float32]:
    """Read temperatures.

    Returns:
        `(H, W)` float32 kelvin, by the calibration stored in the file, upright as the picture is shown.

    Raises:
        MediaError: when flyr is absent, or the file's measurements are damaged.
    """
    try:
        import flyr
    except ImportError as error:
        raise MediaError(
            f"'{path}' is a FLIR jpeg with temperatures inside, and the library that reads them is not installed. "
            'Accepted without it: the finished picture. Run: pip install "crema-thermal[flir]", or set the option '
            "flir='picture'."
        ) from error
    library: Any = flyr
    try:
        kelvin = np.asarray(library.unpack(str(path)).kelvin, dtype=np.float32)
    except Exception as error:
        raise unreadable(
            path,
            error,
            library="flyr",
            holds={"a JPEG picture"},
            what=WHAT,
            suffixes=SUFFIXES,
            convert=PICTURE,
            # The picture around them may be whole, and cameras change their coding; only a cut file is known damaged.
            unsupported=not is_cut(path),
        ) from error
    return upright(kelvin, orientation_of(path)).astype(np.float32, copy=False)


def refuse_dji(path: Path) -> None:
    """Refuse a jpeg with DJI's measurements inside, instead of taking its colours for all there is.

    Raises:
        MediaError: when it is one.
    """
    if path.suffix.lower() not in SUFFIXES:
        return
    with path.open("rb") as file:
        head = file.read(SEARCHED)
        measured = sum(size for marker, size in _segments(file) if marker == DJI_SEGMENT)
    if DJI in head and measured >= MEASURED_BYTES:
        raise MediaError(
            f"'{path}' is a DJI R-JPEG with temperatures inside, in a coding that no library here supports; it is not "
            f"damaged. Read are FLIR jpegs, tiffs and arrays of temperatures, and finished pictures. {PICTURE}"
        )


def _segments(file: BinaryIO) -> Iterator[tuple[int, int]]:
    """Yield marker and size in bytes of the segments in front of a jpeg's pixels."""
    file.seek(2)
    while len(head := file.read(4)) == 4 and head[0] == 0xFF and head[1] != 0xDA:
        size = int.from_bytes(head[2:], "big")
        yield head[1], size
        file.seek(max(size - 2, 0), os.SEEK_CUR)
