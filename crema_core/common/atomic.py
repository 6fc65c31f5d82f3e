"""Write whole or not at all.

A folder is written beside its place, every file flushed to disk, a marker written last, and then renamed; readers
refuse a folder without the marker. An existing folder is replaced only when it carries the marker itself, so nothing
of the user's is ever deleted. Where the system can exchange two names at once, a folder is there at every moment;
elsewhere the old one is moved aside for an instant, and comes back when the process is killed just then.

What a killed process leaves, hidden files and folders beside the place, goes with the next write there. Links are
followed. A device or pipe is written to, never replaced. What cannot be written is a `WriteError`.
"""

from __future__ import annotations

import ctypes
import errno
import hashlib
import os
import platform
import shutil
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path

from crema_core.common.writing import writing
from crema_core.errors import CheckpointError, WriteError

MARKER = "complete"
_MOST_OF_NAME = 40
"""Characters of a name that its temporary neighbour has too: with what is added it must stay a valid name."""


def write_text(path: Path, text: str) -> None:
    """Replace a file by `text`, or leave it as it was; raises as `new_file`.

    Half of a character, as names of files and JSON may hold, has no bytes in UTF-8. It is written with a backslash,
    which in JSON is the same text.
    """
    write_bytes(path, text.encode("utf-8", "backslashreplace"))


def write_bytes(path: Path, content: bytes) -> None:
    """Replace a file by `content`, or leave it as it was; raises as `new_file`."""
    with writing(path, is_kept=True):
        path.parent.mkdir(parents=True, exist_ok=True)
    with new_file(path) as temporary:
        temporary.write_bytes(content)


@contextmanager
def new_file(place: Path) -> Iterator[Path]:
    """Yield a temporary file that takes `place` when the block ends well, flushed to disk.

    A link is followed, and a file that was there before keeps its permissions. What is written to a device or pipe goes
    there in one piece when the block ends.

    Raises:
        WriteError: when it cannot be written; what was there before is as it was.
    """
    named = place
    with writing(named, is_kept=True):
        place = _followed(place)
    if is_stream(place):
        with _for_stream(named) as temporary:
            yield temporary
        return
    with writing(named, inside=place.parent, is_kept=True):
        _clear(place.parent)
        handle, name = tempfile.mkstemp(dir=place.parent, prefix=_prefix(place, "tmp"))
    os.close(handle)
    temporary = Path(name)
    try:
        with writing(named, inside=temporary, is_kept=True):
            yield temporary
            _flush_path(temporary)
            _open_up_as(place, temporary)
            temporary.replace(place)
            _flush_parent(place)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def new_folder(place: Path) -> Iterator[Path]:
    """Yield a temporary folder that takes `place` when the block ends well.

    Raises:
        CheckpointError: when `place` holds something this package did not finish writing; nothing is changed.
        WriteError: when it cannot be written; what was there before is as it was.
    """
    with writing(place, is_kept=True):
        place = _followed(place.absolute())
        _recover(place)
        refuse_foreign(place)
    with _beside(place) as temporary:
        yield temporary
        (temporary / MARKER).write_text("written completely\n")
        _finish(temporary, flush=True)
        _replace(temporary, place)
        _flush_parent(place)


@contextmanager
def fresh_folder(place: Path, *, flush: bool = True) -> Iterator[Path]:
    """Yield a temporary folder that takes `place` when the block ends well; no marker is left.

    For folders that belong to the user from then on, such as a new package or generated data.

    Args:
        place: does not exist, or is an empty folder.
        flush: bring every file to the disk before the folder is renamed. False: thousands of small files that can be
            made again, each of which would cost milliseconds; a power failure in the next seconds may leave them empty.

    Raises:
        WriteError: when it cannot be written; what was there before is as it was.
    """
    with writing(place, is_kept=True):
        place = _followed(place.absolute())
    with _beside(place) as temporary:
        yield temporary
        _finish(temporary, flush=flush)
        if place.is_dir():
            place.rmdir()  # it is empty, and only POSIX renames onto an empty folder
        temporary.rename(place)


@contextmanager
def _beside(place: Path) -> Iterator[Path]:
    with writing(place, inside=place.parent, is_kept=True):
        place.parent.mkdir(parents=True, exist_ok=True)
        _clear(place.parent)
        temporary = Path(tempfile.mkdtemp(dir=place.parent, prefix=_prefix(place, "tmp")))
    try:
        with writing(place, inside=temporary, is_kept=True):
            yield temporary
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def is_stream(path: Path) -> bool:
    """Return whether a path is a device, pipe or socket, which is written to and never replaced."""
    try:
        mode = path.stat().st_mode
    except OSError:
        return False
    return not (stat.S_ISREG(mode) or stat.S_ISDIR(mode))


@contextmanager
def _for_stream(place: Path) -> Iterator[Path]:
    if stat.S_ISBLK(place.stat().st_mode) or stat.S_ISSOCK(place.stat().st_mode):
        raise WriteError(
            f"'{place}' is a disk or a socket, and is not written to. Accepted are files, pipes and devices that take "
            "text, such as /dev/null. Name another place. What was there before is as it was."
        )
    with tempfile.TemporaryDirectory() as folder:
        temporary = Path(folder) / "content"
        temporary.write_bytes(b"")
        yield temporary
        with writing(place):
            # Without a reader, opening a pipe would wait for ever.
            handle = os.open(place, os.O_WRONLY | getattr(os, "O_NONBLOCK", 0))
            with os.fdopen(handle, "wb") as stream:
                os.set_blocking(handle, True)
                stream.write(temporary.read_bytes())


def set_aside(path: Path, *, suffix: str) -> None:
    """Rename a file that cannot be used, by a suffix behind its name, so that readers pass it by."""
    with writing(path):
        path.rename(path.with_name(path.name + suffix))


def open_up(path: Path) -> None:
    """Give a temporary file or folder, private from its making, the permissions an ordinary new one would have."""
    path.chmod((0o777 if path.is_dir() else 0o666) & ~_mask())


def _mask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def _open_up_as(place: Path, temporary: Path) -> None:
    """Give a new file the permissions of the one it replaces, of which somebody may have thought something."""
    if place.is_file():
        temporary.chmod(stat.S_IMODE(place.stat().st_mode))
    else:
        open_up(temporary)


def refuse_foreign(place: Path) -> None:
    """Raise unless `place` is free, empty, or a folder written by `new_folder`."""
    is_other = place.exists() and not place.is_dir()
    if is_other or (place.is_dir() and any(place.iterdir()) and not (place / MARKER).is_file()):
        raise CheckpointError(
            f"'{place.name}' exists and was not written by this package. Accepted: a new or empty folder, or an "
            "earlier save. Name another folder. Nothing was changed."
        )


def require_complete(place: Path, *, what: str) -> None:
    """Raise unless `place` is a completely written folder; `what` it should be is for the message."""
    with suppress(OSError):  # a reader that may not write finds no folder
        _recover(place)
    if not place.is_dir():
        raise CheckpointError(
            f"There is no folder '{place}'. A {what} is a folder. Check the path. Nothing was changed."
        )
    if not (place / MARKER).is_file():
        raise CheckpointError(
            f"'{place}' is not a completely written {what} (its '{MARKER}' file is missing). Writing was interrupted, "
            "or the folder is something else. Use an earlier save. Nothing was changed."
        )


def _followed(place: Path) -> Path:
    if not place.is_symlink():
        return place
    target = Path(os.path.realpath(place))
    if target.is_symlink():
        raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), str(place))
    return target


def _finish(folder: Path, *, flush: bool) -> None:
    """Give all of a folder the permissions of ordinary files, and bring it to the disk."""
    mask = _mask()
    for path in (folder, *folder.rglob("*")):
        if path.is_symlink():
            continue
        # safetensors makes files that nobody else can read.
        path.chmod(stat.S_IMODE(path.stat().st_mode) | ((0o777 if path.is_dir() else 0o666) & ~mask))
        if flush and path.is_file():
            _flush_path(path)


def _flush_path(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _flush_parent(place: Path) -> None:
    if os.name == "posix":  # elsewhere a folder cannot be opened
        _flush_path(place.parent)  # the rename itself


def _replace(temporary: Path, place: Path) -> None:
    """Put a folder in its place. Of several processes that do so at once each succeeds, and the last one's stays."""
    while not _try_to_replace(temporary, place):
        continue


def _try_to_replace(temporary: Path, place: Path) -> bool:
    """Do so once; return whether no other process came between."""
    if not place.exists():
        try:
            temporary.rename(place)
        except OSError:
            if not place.exists():
                raise
            return False  # another one's is there now
        return True
    try:
        if _exchange(temporary, place):
            return True  # what was there before is thrown away as the temporary folder
    except FileNotFoundError:
        return False  # another one has taken it away, to put its own there
    old = Path(tempfile.mkdtemp(dir=place.parent, prefix=_prefix(place, "old")))
    try:
        try:
            place.rename(old / "folder")
        except FileNotFoundError:
            return False  # another one has taken it away, to put its own there
        try:
            temporary.rename(place)
        except OSError:
            if place.exists():
                return False
            (old / "folder").rename(place)
            raise
    finally:
        shutil.rmtree(old, ignore_errors=True)
    return True


def _exchange(one: Path, other: Path) -> bool:
    """Exchange two names at once; False where the system or the file system cannot."""
    call = _renameat2()
    if call is None:
        return False
    here, exchange = -100, 2  # AT_FDCWD, RENAME_EXCHANGE
    if call(here, os.fsencode(one), here, os.fsencode(other), exchange) == 0:
        return True
    number = ctypes.get_errno()
    if number in (errno.ENOSYS, errno.EINVAL, errno.ENOTSUP, errno.EPERM):
        return False
    raise OSError(number, os.strerror(number), str(other))


@cache
def _renameat2() -> ctypes._NamedFuncPointer | None:
    if platform.system() != "Linux":
        return None
    call = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    if call is not None:
        call.argtypes = [ctypes.c_int, ctypes.c_char_p, ctypes.c_int, ctypes.c_char_p, ctypes.c_uint]
    return call


def _prefix(place: Path, kind: str) -> str:
    """Return how the name of a temporary neighbour of `place` begins; it tells whose it is."""
    return f".{place.name[:_MOST_OF_NAME]}.{kind}-{_host()}-{os.getpid()}-"


@cache
def _host() -> str:
    """Return what tells whose processes a number means; containers of one name number their own."""
    space = str(Path("/proc/self/ns/pid").readlink()) if platform.system() == "Linux" else ""
    return hashlib.sha256(f"{platform.node()} {space}".encode()).hexdigest()[:8]


def _recover(place: Path) -> None:
    """Bring back a folder whose process was killed in the instant between two renames."""
    if place.exists() or not place.parent.is_dir():
        return
    for old in place.parent.glob(f".{_escaped(place.name[:_MOST_OF_NAME])}.old-*"):
        if (old / "folder" / MARKER).is_file() and _is_orphan(old.name):
            with suppress(FileNotFoundError, FileExistsError):  # another process was faster
                (old / "folder").rename(place)
                old.rmdir()
            return


def _escaped(name: str) -> str:
    return "".join(f"[{letter}]" if letter in "*?[" else letter for letter in name)


_cleared: set[Path] = set()


def _clear(folder: Path) -> None:
    """Remove what killed processes left in a folder; this process looks once."""
    folder = folder.absolute()
    if folder in _cleared:
        return
    _cleared.add(folder)
    with suppress(OSError):  # a folder that may be written to and not listed
        for path in [Path(entry) for entry in os.scandir(folder) if _is_temporary(entry.name)]:
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path, ignore_errors=True)
            else:
                with suppress(OSError):  # another user's
                    path.unlink(missing_ok=True)


def _is_temporary(name: str) -> bool:
    return name.startswith(".") and ".tmp-" in name and _is_orphan(name)


def _is_orphan(name: str) -> bool:
    """Return whether a temporary name is of a process of this machine that is gone."""
    host, _, rest = name.rpartition(".")[2].partition("-")[2].partition("-")
    number = rest.partition("-")[0]
    if host != _host() or not number.isdecimal() or int(number) == os.getpid():
        return False
    import psutil

    return not psutil.pid_exists(int(number))
