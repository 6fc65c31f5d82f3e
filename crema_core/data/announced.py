"""What arrays of numpy announce in their headers, looked at before room is made for them.

An `.npy` of 130 bytes may announce 10^12 numbers, and a member of an `.npz` unfolds to a thousand times its size. Only
headers are read here; a file whose headers cannot be understood is left to numpy, which has the words for it.
"""

from __future__ import annotations

import math
import zipfile
from pathlib import Path
from typing import IO

from numpy.lib import format as numpy_format

from crema_core.data.files import damaged
from crema_core.data.limits import as_size, max_bytes, require_room, require_size
from crema_core.plugins.spec import ARRAY_SUFFIXES

WHAT = "an array"
MOST_MEMBERS = 10_000
"""Arrays of one file, whose headers are looked at one by one."""


def require_arrays(path: Path) -> None:
    """Refuse an `.npy` or `.npz` that announces more than one source may take.

    Raises:
        MediaError: naming the file and the size.
    """
    if not zipfile.is_zipfile(path):
        require_size(path)
        with path.open("rb") as file:
            announced = _num_bytes(file)
            held = path.stat().st_size - file.tell()
        _require_held(path, announced, held, "")
        return
    try:
        with zipfile.ZipFile(path) as archive:
            require_members(path, archive)
            for member in archive.infolist():
                with archive.open(member) as content:
                    _require_held(path, _num_bytes(content), member.file_size, member.filename)
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError, OSError, EOFError, ValueError):
        return  # damaged or encrypted: numpy says so


def require_members(path: Path, archive: zipfile.ZipFile) -> None:
    """Refuse an archive whose members unfold to more than one source may take.

    Raises:
        MediaError: naming the file and the size.
    """
    members = archive.infolist()
    if len(members) > MOST_MEMBERS:
        cause = f"it has {len(members):,} members, and at most {MOST_MEMBERS:,} are read"
        raise damaged(path, cause, what=WHAT, suffixes=ARRAY_SUFFIXES)
    total = sum(member.file_size for member in members)
    require_room(path, total, f"{len(members):,} arrays of {total:,} bytes in all")


def _num_bytes(file: IO[bytes]) -> int:
    """Return how many bytes of numbers a header announces; 0 where there is no header that can be understood."""
    try:
        version = numpy_format.read_magic(file)
        read = numpy_format.read_array_header_1_0 if version == (1, 0) else numpy_format.read_array_header_2_0
        shape, _, kind = read(file)
    except Exception:  # noqa: BLE001 - numpy reads it again, and its error is the one that is reported
        return 0
    return 0 if kind.hasobject else math.prod(shape) * kind.itemsize


def _require_held(path: Path, announced: int, held: int, member: str) -> None:
    if announced > held and announced > max_bytes():
        cause = f"it is cut short, it announces {as_size(announced)}{f' in {member}' if member else ''} and holds "
        raise damaged(path, f"{cause}{as_size(max(held, 0))}", what=WHAT, suffixes=ARRAY_SUFFIXES)
    require_room(path, announced, f"numbers of {announced:,} bytes{f' in {member}' if member else ''}")
