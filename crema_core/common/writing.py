"""What the system reports when something cannot be written, as one message in three parts.

Full disks, quotas, read-only places, missing permissions and limits reach Python as `OSError`, through safetensors as
its own error with the number in its text. Whoever writes does so inside `writing(place)`.
"""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from crema_core.errors import WriteError, first_line

_ROOM = "Needed is a place with room. Free some, or name another place."
_ALLOWED = "Needed is a place that this user may write to. Change its permissions, or name another place."
_FOLDER = "Needed is a path whose folders are folders. Name another place."
_REASONS = {
    errno.ENOSPC: ("the disk is full", _ROOM),
    errno.EDQUOT: ("the disk quota of this user is used up", _ROOM),
    errno.EFBIG: (
        "a file would become larger than this process or file system allows",
        "Needed is a limit above it (ulimit -f prints it). Raise the limit, or name another place.",
    ),
    errno.EROFS: ("the file system is read-only", _ALLOWED),
    errno.EACCES: ("this user may not write there", _ALLOWED),
    errno.EPERM: ("this user may not write there", _ALLOWED),
    errno.ENAMETOOLONG: (
        "its name is too long for the file system",
        "Accepted are names of up to about 200 bytes. Name a shorter one.",
    ),
    errno.ELOOP: ("symbolic links of its path lead in a circle", "Needed is a link that ends. Name another place."),
    errno.ENOTDIR: ("a part of its path is a file", _FOLDER),
    errno.EEXIST: ("a file or a broken link is where a folder should be", _FOLDER),
    errno.ENOTEMPTY: ("somebody else has filled it meanwhile", "Needed is a new or empty folder. Name another."),
    errno.EISDIR: ("a folder is there", "Needed is the name of a file. Name another, or a file inside that folder."),
    errno.ENOENT: (
        "a folder of its path does not exist, perhaps the working directory was deleted",
        "Needed is a folder that exists. Change into one, or name another place.",
    ),
    errno.EBUSY: (
        "it is a mount point or in use",
        "Needed is a folder that can be replaced. Name a new folder inside it.",
    ),
    errno.ENXIO: ("no program reads from this pipe", "Start the reader first, or name a file."),
    errno.EMFILE: (
        "this process has too many open files",
        "Needed is a higher limit (ulimit -n prints it). Raise it, or use fewer workers.",
    ),
    errno.EIO: ("the device reports an input or output error", "Name a place on another disk."),
}
MOST_SHOWN = 300
"""Characters of a path in a message."""
_ONLY_WRITING = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS)
"""Numbers that no reader meets."""


@contextmanager
def writing(place: Path, *, inside: Path | None = None, is_kept: bool = False) -> Iterator[None]:
    """Turn what the system raises when something cannot be written into a message.

    Args:
        place: what is written, for the message.
        inside: the temporary file or folder that takes `place` later, or where it is made; errors about other files
            pass.
        is_kept: whether what was at `place` before is there as it was.

    Raises:
        WriteError: instead of another `OSError`, or an error of safetensors, that is about writing.
    """
    try:
        yield
    except WriteError:
        raise
    except Exception as error:
        number = number_of(error)
        if number is None or not (number in _ONLY_WRITING or _is_about(error, place, inside)):
            raise
        raise write_error(place, error, is_kept=is_kept) from error


def write_error(place: Path | str, error: BaseException, *, is_kept: bool = False) -> WriteError:
    """Return the error for a place that cannot be written."""
    number = number_of(error)
    reason, advice = _REASONS.get(number or 0, (first_line(error), "Name another place."))
    kept = " What was there before is as it was." if is_kept else ""
    name = str(place) if len(str(place)) < MOST_SHOWN else f"{str(place)[:MOST_SHOWN]}..."
    found = WriteError(f"'{name}' cannot be written: {reason}. {advice}{kept}")
    found.errno, found.strerror = number, reason
    return found


def is_about_room(error: BaseException) -> bool:
    """Return whether an error is one that only writing meets: a full disk, a quota, a limit, a read-only place."""
    return number_of(error) in _ONLY_WRITING


def number_of(error: BaseException) -> int | None:
    """Return the system's number of an error (`errno`), also of one that safetensors tells in words."""
    if isinstance(error, OSError):
        return error.errno
    if type(error).__name__ != "SafetensorError":  # named, so that nothing is imported for an error
        return None
    found = re.search(r"os error (\d+)", str(error))
    return int(found[1]) if found else None


def _is_about(error: BaseException, place: Path, inside: Path | None) -> bool:
    """Whether an error is about what is written, or names no file at all, as those of open files do."""
    named = [name for name in (getattr(error, "filename", None), getattr(error, "filename2", None)) if name is not None]
    if not named:
        return True
    own = [_absolute(path) for path in (place, inside) if path is not None]
    own += [str(parent) for parent in Path(own[0]).parents]  # folders that are made for it
    return any(
        path in own or (inside is not None and path.startswith(own[1] + os.sep))
        for path in (_absolute(os.fsdecode(name)) for name in named if isinstance(name, str | bytes))
    )


def _absolute(path: str | Path) -> str:
    try:
        return os.path.abspath(path)  # noqa: PTH100  # links stay as they are named
    except FileNotFoundError:  # the working directory was deleted
        return os.fspath(path)
