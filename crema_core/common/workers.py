"""Processes that share a list of work, and stop within seconds when the one that started them is told to.

The standard library's pools wait for all work that was begun when Ctrl-C or SIGTERM ends the program that uses them,
and their processes print tracebacks of their own after a Ctrl-C, which a terminal sends to all of them. Here the
processes hear of both from their parent alone: it ends them with SIGTERM, on which they clean up as the parent does,
and after `PATIENCE_S` with SIGKILL. They end with a parent that was killed, too.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from contextlib import contextmanager
from multiprocessing import resource_tracker
from multiprocessing.process import BaseProcess
from types import FrameType
from typing import ParamSpec, Protocol, TypeVar

from crema_core.common.parent import watch_parent
from crema_core.common.stopping import TERMINATED, Terminated

PATIENCE_S = 2.0
"""Seconds a process has to clean up in."""

Given = ParamSpec("Given")
Result = TypeVar("Result")


class Submit(Protocol):
    """Gives work to one of the processes."""

    def __call__(
        self, work: Callable[Given, Result], /, *arguments: Given.args, **named: Given.kwargs
    ) -> Future[Result]: ...


@contextmanager
def worker_processes(count: int, *, begin: Callable[[], object] | None = None) -> Iterator[Submit]:
    """Start processes as work is given, wait for it at the end of the block, and end them when the block raises.

    Args:
        count: the most processes.
        begin: what each of them does first; pickled, as the work is.

    Yields:
        what gives work. Its futures raise `BrokenProcessPool` when a process was ended from outside.
    """
    resource_tracker.ensure_running()  # it unblocks signals where it is started later
    others = set(multiprocessing.active_children())
    context = multiprocessing.get_context("spawn")  # fork is unsafe once torch runs threads
    pool = ProcessPoolExecutor(count, context, initializer=_begin, initargs=(begin,))

    def submit(work: Callable[..., Result], /, *words: object, **named: object) -> Future[Result]:
        with _ctrl_c_blocked():
            return pool.submit(_work, work, words, named)

    try:
        yield submit
    except BaseException:
        pool.shutdown(wait=False, cancel_futures=True)
        _end([own for own in multiprocessing.active_children() if own not in others])
        raise
    pool.shutdown()


def _end(processes: list[BaseProcess]) -> None:
    for process in processes:
        process.terminate()
    until = time.monotonic() + PATIENCE_S
    for process in processes:
        if not _ends(process, until):
            process.kill()
            _ends(process, time.monotonic() + PATIENCE_S)


def _ends(process: BaseProcess, until: float) -> bool:
    """Wait until `process` has an exit code, or until a time; the pool's thread collects it too, and tells it later."""
    while process.exitcode is None:
        left = until - time.monotonic()
        if left <= 0.0:
            return False
        process.join(left)  # returns at once when the process is gone, also where the other thread holds its exit code
        time.sleep(0.001)
    return True


@contextmanager
def _ctrl_c_blocked() -> Iterator[None]:
    """Let processes that are started inside the block never hear of Ctrl-C, not even while they import; it waits."""
    if not hasattr(signal, "pthread_sigmask"):  # Windows
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


_works = threading.Event()


def _begin(begin: Callable[[], object] | None) -> None:
    watch_parent()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, _stop)
    if begin is not None:
        begin()


def _stop(number: int, frame: FrameType | None) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # cleaning up is not disturbed
    if not _works.is_set():
        os._exit(TERMINATED)
    raise Terminated


def _work(work: Callable[..., Result], arguments: tuple[object, ...], named: dict[str, object]) -> Result:
    try:
        _works.set()
        try:
            return work(*arguments, **named)
        finally:
            _works.clear()
    except Terminated:  # wherever it came: the pool would send it back and give the next work
        os._exit(TERMINATED)
