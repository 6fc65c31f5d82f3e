"""Who writes to a place: one owner at a time, whether the others are on this machine or share its disk.

```
owner.lock   filelock's lease: process, its start, host and a random token; its time stamp is the last sign of life
owner.json   the same for people: who, where, since when, doing what, and the processes of the launch
```

Both lie in the folder, beside a file as `<file>.lock` and `<file>.owner`, and are there only while somebody writes. A
lock of the system's (`flock`) would not do: on shared storage it may hold on one machine alone, and a job that SLURM or
Kubernetes starts again is on another one. So the owner gives a sign of life every `BEAT_S` seconds. What a crash left
is recognised and taken over: on the same machine at once, because the process is gone; from another one after `LEASE_S`
seconds without a sign, counted by the clock of the process that waits, so that clocks need not agree.
"""

from __future__ import annotations

import getpass
import json
import os
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

from crema_core.errors import CremaError

LEASE_S = 60.0
"""Seconds without a sign of life after which an owner on another machine is taken for dead."""
BEAT_S = 10.0
"""Seconds between two signs of life."""
POLL_S = 0.25


class Member(NamedTuple):
    """A process."""

    host: str
    pid: int
    started: float  # seconds, see `_started`: a later process may have the same number
    boot: str = ""  # which start of the machine; empty where that is not known


@dataclass(frozen=True)
class Owner:
    """Who writes to a place."""

    token: str  # of the lease that this describes
    user: str
    machine: str  # host and space of process numbers
    host: str
    pid: int
    since: str
    work: str
    members: tuple[Member, ...] = ()  # the processes of its launch

    def __str__(self) -> str:
        return f"{self.work} of {self.user} on {self.host}, process {self.pid}, since {self.since}"


class _Hold(NamedTuple):
    """What this program owns."""

    place: Path
    lost: threading.Event
    error: type[CremaError]


_HELD: ContextVar[Mapping[Path, _Hold]] = ContextVar("held", default={})  # noqa: B039 - it is replaced, never changed


@contextmanager
def owned_folder(
    folder: Path,
    *,
    work: str,
    advice: str,
    say: Callable[[str], None],
    members: Sequence[Member] = (),
    error: type[CremaError] = CremaError,
) -> Iterator[None]:
    """Let nobody else write into a folder inside the block; whoever owns it already, further out, goes on owning it.

    Args:
        folder: made when it is not there, and removed again when nothing was written.
        work: what is done, for the messages of others.
        advice: what else a person may do who is refused, for example "give another out=".
        say: told when what a crash left is taken over, and when that is waited for.
        members: the processes that work together, this one included.
        error: what is raised.

    Raises:
        CremaError: of the kind `error`, when another process writes there.
    """
    made = [own for own in (folder, *folder.parents) if not own.exists()]
    with suppress(OSError):  # what cannot be made or written is an error where it is written
        folder.mkdir(parents=True, exist_ok=True)
    try:
        with _owned(folder, folder / "owner.lock", folder / "owner.json", work, advice, say, members, error):
            yield
    finally:
        with suppress(OSError):  # one is not empty
            for own in made:
                own.rmdir()


@contextmanager
def owned_file(
    path: Path, *, work: str, advice: str, say: Callable[[str], None], error: type[CremaError] = CremaError
) -> Iterator[None]:
    """Let nobody else write a file inside the block; arguments and errors are those of `owned_folder`."""
    if path.exists() and not path.is_file():  # a device or a pipe: nothing is kept in it
        yield
        return
    with suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
    lock, note = (path.with_name(f"{path.name}{ending}") for ending in (".lock", ".owner"))
    with _owned(path, lock, note, work, advice, say, (), error):
        yield


def require_owned(place: Path) -> None:
    """Raise when this program owned a place and does not any more, because it gave no sign of life for too long."""
    hold = _HELD.get().get(place.absolute())
    if hold is not None and hold.lost.is_set():
        raise hold.error(
            f"'{place}' has another owner now: this process gave no sign of life for {LEASE_S:g} s (was it stopped, or "
            "its disk away?). One process at a time writes there, so nothing more was written. Look at what the other "
            "one does, and end this program."
        )


def this_process() -> Member:
    """Return the running process."""
    import psutil

    return Member(socket.gethostname(), os.getpid(), _started(psutil.Process()), _boot())


@contextmanager
def _owned(
    place: Path,
    lock: Path,
    note: Path,
    work: str,
    advice: str,
    say: Callable[[str], None],
    members: Sequence[Member],
    error: type[CremaError],
) -> Iterator[None]:
    from filelock import SoftFileLease

    held, key = _HELD.get(), place.absolute()
    if key in held:
        yield
        return
    lost = threading.Event()
    lease = SoftFileLease(
        lock,
        lease_duration=LEASE_S,
        heartbeat_interval=BEAT_S,
        on_compromise=lambda _: lost.set(),
        thread_local=False,
        is_singleton=False,
    )
    try:
        _acquire(lease, place, note, advice, say, error)
    except OSError:  # a place that cannot be written: that is said where it is written
        yield
        return
    token = lease.token or ""
    try:
        _take_over(place, note, advice, say, error)
        since = time.strftime("%Y-%m-%d %H:%M:%S")
        own = this_process()
        owner = Owner(token, _user(), _machine(), own.host, own.pid, since, work, tuple(members) or (own,))
        with suppress(OSError):  # a full disk: the lease alone holds, and messages know less
            note.write_text(json.dumps(asdict(owner), indent=2) + "\n", encoding="utf-8")
        reset = _HELD.set({**held, key: _Hold(place, lost, error)})
        try:
            yield
        finally:
            _HELD.reset(reset)
            if not lost.is_set() and (left := _read(note)) is not None and left.token == token:
                note.unlink(missing_ok=True)  # before the lease ends: what is found later was left by a crash
    finally:
        lease.release()


def _acquire(
    lease: Any, place: Path, note: Path, advice: str, say: Callable[[str], None], error: type[CremaError]
) -> None:
    """Acquire the lease, or raise: at once where its owner is alive, else as soon as it gives a sign of life."""
    from filelock import LeaseSettingsMismatch, Timeout

    seen, told, until = None, False, time.monotonic() + 2 * LEASE_S
    while True:
        try:
            lease.acquire(timeout=0)
            return
        except (Timeout, LeaseSettingsMismatch) as refusal:
            owner, beat = _read(note), _beat(Path(lease.lock_file))
            here = owner is not None and owner.machine == _machine()
            if here or (seen and beat and beat != seen) or time.monotonic() > until:
                raise error(_refusal(place, owner, beat, advice)) from refusal
        seen = seen or beat
        if owner is not None and not told:
            told = True
            say(f"'{place}' belongs to {owner}. Waiting up to {LEASE_S:g} s for a sign of life from that machine.")
        time.sleep(POLL_S)


def _take_over(place: Path, note: Path, advice: str, say: Callable[[str], None], error: type[CremaError]) -> None:
    """Say what a crash has left; raise where processes of its launch are still there."""
    left = _read(note)
    if left is None:
        return
    alive = [own for own in left.members if own.pid != os.getpid() and _is_alive(own)]
    if alive:
        numbers = " ".join(str(own.pid) for own in alive)
        raise error(
            f"'{place}' was left by {left}, which is gone, but processes of its launch still run. They may write "
            f"there. End them with: kill {numbers}, or {advice}."
        )
    say(f"'{place}' was left by {left}, which is gone. This process takes over.")


def _refusal(place: Path, owner: Owner | None, beat: tuple[int, int] | None, advice: str) -> str:
    sign = "" if beat is None else f", last sign of life {max(0.0, time.time() - beat[0] / 1e9):.0f} s ago"
    end = ""
    if owner is not None and owner.pid != os.getpid():
        where = "" if owner.machine == _machine() else f" on {owner.host}"
        end = f", end it (kill {owner.pid}{where})"
    return (
        f"'{place}' belongs to another process: {owner or 'one that has just begun'}{sign}. One process at a time "
        f"writes there. Wait for its end{end}, or {advice}. Nothing was changed."
    )


def _beat(lock: Path) -> tuple[int, int] | None:
    """Return when an owner last gave a sign of life, by the clock of its disk, and which file states it."""
    try:
        found = lock.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_ino


def _read(note: Path) -> Owner | None:
    try:
        values = json.loads(note.read_text(encoding="utf-8"))
        members = tuple(Member(*own) for own in values.pop("members"))
        return Owner(**values, members=members)
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return None  # it is being written, or was cut off by a crash; the lease counts


def _is_alive(member: Member) -> bool:
    """Whether a process of this machine runs; of another machine's nothing is known."""
    import psutil

    if member.host != socket.gethostname() or (member.boot and member.boot != _boot()):
        return False
    try:
        process = psutil.Process(member.pid)
        same = abs(_started(process) - member.started) < 1.0
        return bool(same and process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def _started(process: Any) -> float:
    """Return when a process was started, the same number after somebody set the clock.

    Linux counts from the start of the machine, to which psutil adds the time of that by today's clock.
    """
    import psutil

    since_1970: float = process.create_time()
    return since_1970 - psutil.boot_time() if sys.platform == "linux" else since_1970


def _boot() -> str:
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:
        return ""


def _machine() -> str:
    """Return what tells whether a number of a process means one of this machine's; containers number their own."""
    space = str(Path("/proc/self/ns/pid").readlink()) if sys.platform == "linux" else ""
    return f"{socket.gethostname()} {space}".strip()


def _user() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError):  # a container's user may have a number and no name
        return str(os.getuid()) if hasattr(os, "getuid") else "unknown"
