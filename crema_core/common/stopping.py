"""Being told to stop: SIGTERM is what Ctrl-C is, a `KeyboardInterrupt` that cleans up on its way out.

SLURM (`scancel`, preemption, the time limit), Kubernetes and systemd send SIGTERM, wait for some seconds, and kill. A
program that does nothing about it ends at once, leaves its temporary files, and says nothing. So a command line stops
for both signals in the same way, with the exit codes a shell knows: 130 after Ctrl-C, 143 after SIGTERM.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

INTERRUPTED, TERMINATED = 130, 143
SIGNALS = (signal.SIGINT, signal.SIGTERM)
PATIENCE_S = 3.0
"""Seconds after which one more signal ends a program that is still cleaning up; sooner it is the same wish again."""
RESENT_S = 0.01


class Terminated(KeyboardInterrupt):
    """SIGTERM came. Whatever cleans up after Ctrl-C does so after it, too."""


def exit_code(stop: KeyboardInterrupt) -> int:
    """Return what a program ends with that was stopped."""
    return TERMINATED if isinstance(stop, Terminated) else INTERRUPTED


def cause(stop: KeyboardInterrupt) -> str:
    """Return in a word what stopped a program, for messages."""
    return "terminated" if isinstance(stop, Terminated) else "interrupted"


def stop_for(number: int) -> KeyboardInterrupt:
    """Return what is raised for a signal."""
    return Terminated() if number == signal.SIGTERM else KeyboardInterrupt()


def is_in_charge() -> bool:
    """Return whether signals reach this thread: Python delivers them to the main one."""
    return threading.current_thread() is threading.main_thread()


def ignore_signals() -> None:
    """Ignore Ctrl-C and SIGTERM from here on, in a process that is ending already: people press twice."""
    if is_in_charge():
        for number in SIGNALS:
            signal.signal(number, signal.SIG_IGN)


@contextmanager
def handled(handle: Callable[[int, FrameType | None], Any], *, only_default: bool = True) -> Iterator[None]:
    """Let a function handle Ctrl-C and SIGTERM inside the block, in this process and not in those it forks.

    Args:
        handle: a handler of signals.
        only_default: leave a signal alone that somebody else handles, or that is ignored as `nohup` does.
    """
    if not is_in_charge():
        yield
        return
    process, before = os.getpid(), {}

    def here(number: int, frame: FrameType | None) -> None:
        if os.getpid() == process:
            handle(number, frame)
        else:  # a forked child that does not know of the handler ends as it would without
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)

    for number in SIGNALS:
        own = signal.getsignal(number)
        if not only_default or own in (signal.SIG_DFL, signal.default_int_handler):
            before[number] = signal.signal(number, here)
    try:
        yield
    finally:
        for number, own in before.items():
            if own is not None:  # None: another language's handler, which Python cannot put back
                signal.signal(number, own)


@contextmanager
def stoppable() -> Iterator[None]:
    """Let the first Ctrl-C or SIGTERM inside the block be raised, and those that follow not disturb the cleaning up.

    People press twice, and schedulers send again. Where cleaning up takes longer than `PATIENCE_S`, one more ends the
    program at once, with the exit code of the first; what it leaves goes with the next write there.
    """
    first: list[tuple[int, float]] = []

    def handle(number: int, frame: FrameType | None) -> None:
        if not first:
            first.append((number, time.monotonic()))
            raise stop_for(number)
        if time.monotonic() - first[0][1] > PATIENCE_S:
            os.write(2, b"crema: stopped at once, without cleaning up\n")
            os._exit(exit_code(stop_for(first[0][0])))

    def lost(unraisable: sys.UnraisableHookArgs) -> None:
        """Send again what came while an object was being deleted, where Python drops whatever is raised."""
        if first and isinstance(unraisable.exc_value, KeyboardInterrupt):
            number, _ = first.pop()
            threading.Timer(RESENT_S, os.kill, (os.getpid(), number)).start()  # what is raised here is dropped too
        else:
            hook(unraisable)

    hook, sys.unraisablehook = sys.unraisablehook, lost
    try:
        with handled(handle):
            yield
    finally:
        sys.unraisablehook = hook
