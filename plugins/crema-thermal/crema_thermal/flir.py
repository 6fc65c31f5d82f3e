"""FLIR radiometric jpegs: raw counts and calibration inside an ordinary picture, read by flyr where it is installed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from crema_core.data.media import damaged
from crema_core.errors import MediaError

MARK = b"FLIR\x00"
SEARCHED = 1 << 16
WHAT, SUFFIXES = "a FLIR picture", (".jpg", ".jpeg")


def is_flir(path: Path) -> bool:
    """Return whether a jpeg has FLIR's segment; the beginning of the file states so."""
    if path.suffix.lower() not in SUFFIXES:
        return False
    with path.open("rb") as file:
        return MARK in file.read(SEARCHED)


def read_flir(path: Path) -> NDArray[np.float32]:
    """Read temperatures.

    Returns:
        `(H, W)` float32 kelvin, by the calibration stored in the file.

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
        return np.asarray(library.unpack(str(path)).kelvin, dtype=np.float32)
    except Exception as error:
        raise damaged(path, "its measurements are damaged", what=WHAT, suffixes=SUFFIXES) from error
