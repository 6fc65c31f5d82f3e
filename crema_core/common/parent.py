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
