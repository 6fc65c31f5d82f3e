"""Host memory that one minibatch frees serves the next one, instead of going back to the system in between.

A backward pass frees hundreds of megabytes at the top of the heap. glibc gives them back to the system, which has to
map and clear every page again a moment later: about a tenth of a minibatch's CPU time (16.8 seconds instead of 14.9,
`docs/speed.md`; `python -m benchmarks.sequential --allocator default` measures without this).

It is set from inside, by `mallopt`, because glibc reads its environment variables when a process starts: a launcher
could set them for processes it starts, but not for a script or notebook that calls `fit`, and they would hold for the
whole life of the process. Where they are set (`MALLOC_TRIM_THRESHOLD_` and its like), this module does nothing.
"""

from __future__ import annotations

import ctypes
import os
import platform
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # of malloc.h
_NEVER = -1
# glibc raises both by itself as large blocks are freed; this is where it stops.
_LARGEST_MMAP_THRESHOLD = 32 * 2**20
_LARGEST_TRIM_THRESHOLD = 2 * _LARGEST_MMAP_THRESHOLD

_lock = threading.Lock()
_users = 0


@contextmanager
def retain_freed_memory() -> Iterator[None]:
    """Keep what is freed inside in this process, and give it back at the end.

    Where the allocator is not glibc's, or the environment sets it up (`MALLOC_TRIM_THRESHOLD_` and its like,
    `GLIBC_TUNABLES`), nothing happens. May be nested, also over threads; the last one to leave gives back.
    """
    global _users
    settings = ("MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_", "MALLOC_TOP_PAD_", "MALLOC_MMAP_MAX_")
    is_set_up = any(name in os.environ for name in settings) or "glibc.malloc" in os.environ.get("GLIBC_TUNABLES", "")
    libc = None if is_set_up else _glibc()
    if libc is None:
        yield
        return
    with _lock:
        _users += 1
        if _users == 1:
            libc.mallopt(_MMAP_THRESHOLD, _LARGEST_MMAP_THRESHOLD)
            libc.mallopt(_TRIM_THRESHOLD, _NEVER)
    try:
        yield
    finally:
        with _lock:
            _users -= 1
            if _users == 0:
                libc.mallopt(_TRIM_THRESHOLD, _LARGEST_TRIM_THRESHOLD)
                libc.malloc_trim(ctypes.c_size_t(0))


@cache
def _glibc() -> ctypes.CDLL | None:
    return ctypes.CDLL(None) if platform.libc_ver()[0] == "glibc" else None
