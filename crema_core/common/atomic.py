"""Write whole or not at all.

A folder is written beside its place, every file flushed to disk, a marker written last, and then renamed; readers
refuse a folder without the marker. An existing folder is replaced only when it carries the marker itself, so nothing
of the user's is ever deleted.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from crema_core.errors import CheckpointError

MARKER = "complete"


def write_text(path: Path, text: str) -> None:
    """Replace a file by `text`, or leave it as it was."""
    write_bytes(path, text.encode("utf-8"))


def write_bytes(path: Path, content: bytes) -> None:
    """Replace a file by `content`, or leave it as it was."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with new_file(path) as temporary:
        temporary.write_bytes(content)


@contextmanager
def new_file(place: Path) -> Iterator[Path]:
    """Yield a temporary file that takes `place` when the block ends well, flushed to disk."""
    handle, name = tempfile.mkstemp(dir=place.parent, prefix=f".{place.name}.")
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        _flush_file(temporary)
        open_up(temporary)
        temporary.replace(place)
        if os.name == "posix":  # elsewhere a folder cannot be opened
            _flush_file(place.parent)  # the rename itself
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def new_folder(place: Path) -> Iterator[Path]:
    """Yield a temporary folder that takes `place` when the block ends well.

    Raises:
        CheckpointError: when `place` holds something this package did not finish writing; nothing is changed.
    """
    place = place.absolute()
    refuse_foreign(place)
    with _beside(place) as temporary:
        yield temporary
        (temporary / MARKER).write_text("written completely\n")
        _flush(temporary)
        open_up(temporary)
        _replace(temporary, place)


@contextmanager
def fresh_folder(place: Path, *, flush: bool = True) -> Iterator[Path]:
    """Yield a temporary folder that takes `place` when the block ends well; no marker is left.

    For folders that belong to the user from then on, such as a new package or generated data.

    Args:
        place: does not exist, or is an empty folder.
        flush: bring every file to the disk before the folder is renamed. False: thousands of small files that can be
            made again, each of which would cost milliseconds; a power failure in the next seconds may leave them empty.
    """
    place = place.absolute()
    with _beside(place) as temporary:
        yield temporary
        if flush:
            _flush(temporary)
        open_up(temporary)
        if place.is_dir():
            place.rmdir()  # it is empty, and only POSIX renames onto an empty folder
        temporary.rename(place)


@contextmanager
def _beside(place: Path) -> Iterator[Path]:
    place.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(dir=place.parent, prefix=f".{place.name}.tmp-"))
    try:
        yield temporary
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def set_aside(path: Path, *, suffix: str) -> None:
    """Rename a file that cannot be used, by a suffix behind its name, so that readers pass it by."""
    path.rename(path.with_name(path.name + suffix))


def open_up(path: Path) -> None:
    """Give a temporary file or folder, private from its making, the permissions an ordinary new one would have."""
    mask = os.umask(0)
    os.umask(mask)
    path.chmod((0o777 if path.is_dir() else 0o666) & ~mask)


def refuse_foreign(place: Path) -> None:
    """Raise unless `place` is free, empty, or a folder written by `new_folder`."""
    if place.is_file() or (place.is_dir() and any(place.iterdir()) and not (place / MARKER).is_file()):
        raise CheckpointError(
            f"'{place.name}' exists and was not written by this package. Accepted: a new or empty folder, or an "
            "earlier save. Name another folder. Nothing was changed."
        )


def require_complete(place: Path, *, what: str) -> None:
    """Raise unless `place` is a completely written folder; `what` it should be is for the message."""
    if not place.is_dir():
        raise CheckpointError(
            f"There is no folder '{place}'. A {what} is a folder. Check the path. Nothing was changed."
        )
    if not (place / MARKER).is_file():
        raise CheckpointError(
            f"'{place}' is not a completely written {what} (its '{MARKER}' file is missing). Writing was interrupted, "
            "or the folder is something else. Use an earlier save. Nothing was changed."
        )


def _flush(folder: Path) -> None:
    for path in folder.rglob("*"):
        if path.is_file():
            _flush_file(path)


def _flush_file(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _replace(temporary: Path, place: Path) -> None:
    if not place.exists():
        temporary.rename(place)
        return
    old = Path(tempfile.mkdtemp(dir=place.parent, prefix=f".{place.name}.old-"))
    place.rename(old / "folder")
    try:
        temporary.rename(place)
    except OSError:
        (old / "folder").rename(place)
        raise
    finally:
        shutil.rmtree(old, ignore_errors=True)
