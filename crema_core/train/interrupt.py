"""Ctrl-C while training: finish the update, save, then stop."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable
from pathlib import Path
from types import FrameType, TracebackType


class TrainingInterrupted(KeyboardInterrupt):
    """Training was interrupted and its state is saved; a command line exits with 130.

    Attributes:
        folder: the run directory to resume.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        super().__init__(
            f"Interrupted; everything is saved in '{folder}'. Continue with resume=True and out='{folder}'."
        )


class InterruptGuard:
    """Turns the first Ctrl-C inside a `with` block into the flag `requested`; the second one stops at once.

    Outside the main thread Python delivers no signals, and the guard does nothing.

    Args:
        announce: called with a sentence at the first Ctrl-C.
    """

    def __init__(self, announce: Callable[[str], None]) -> None:
        self.announce = announce
        self.requested = False
        self._previous: signal.Handlers | Callable[[int, FrameType | None], object] | int | None = None

    def __enter__(self) -> InterruptGuard:
        if threading.current_thread() is threading.main_thread():
            self._previous = signal.signal(signal.SIGINT, self._handle)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._previous is not None:
            signal.signal(signal.SIGINT, self._previous)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self.requested:
            raise KeyboardInterrupt
        self.requested = True
        self.announce("Interrupted: finishing this update, then saving. Press Ctrl-C again to stop without saving.")
