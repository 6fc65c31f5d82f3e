"""Worker processes end with the process that started them, also when that one is killed and can tell nobody."""

from __future__ import annotations

import ctypes
import functools
import os
import signal
import sys
import threading
import time

POLL_S = 0.5
_PR_SET_PDEATHSIG = 1


@functools.cache
def end_with_parent(parent: int | None = None) -> None:
    """End this process when its parent has ended.

    On Linux the system does it, without delay and whatever this process computes; there, and on every other POSIX
    system, a thread looks as well, because Linux takes the end of the thread that started a process for the parent's,
    and is not asked where that may come first (see `watch_parent`).

    Args:
        parent: id of the process that must live; None: the one that started this one.
    """
    if sys.platform == "linux":
        libc = ctypes.CDLL(None, use_errno=True)
        libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    watch_parent(parent)


def leave_stopping_to_parent() -> None:
    """Let this worker process overhear Ctrl-C and a SIGTERM that its parent did not send.

    Terminals, SLURM and torch's launcher send them to all processes of a job. The parent ends its workers when it has
    saved; one that ended before would be taken for a crash.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if not hasattr(signal, "sigwaitinfo"):  # macOS and Windows do not tell who sent a signal
        return
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})  # threads that start later take it over

    def wait() -> None:
        while signal.sigwaitinfo({signal.SIGTERM}).si_pid != os.getppid():
            continue
        os._exit(0)

    threading.Thread(target=wait, name="crema-stop", daemon=True).start()


def watch_parent(parent: int | None = None) -> None:
    """Do the same by a thread alone, for workers whose starting thread may end before its process does."""
    if os.name != "posix":  # Windows: `os.getppid` goes on naming a process that has ended
        return
    expected = os.getppid() if parent is None else parent

    def watch() -> None:
        while os.getppid() == expected:
            time.sleep(POLL_S)
        os.kill(os.getpid(), signal.SIGKILL)  # as the parent may have ended; files are whole at any moment

    threading.Thread(target=watch, name="crema-parent", daemon=True).start()
