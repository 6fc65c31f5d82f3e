"""One status line: overwritten on a terminal, printed now and then elsewhere, silent in other processes."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import TextIO


class StatusLine:
    """Where long work states what it is doing.

    On a terminal the line is rewritten at most five times a second; in a log file a new line appears after the first
    two seconds and then every `interval_s`.

    Args:
        stream: where to write; None: standard error, which leaves standard output to results.
        interval_s: seconds between lines where the stream is no terminal.
        enabled: False writes nothing.
        clock: seconds, for tests.
    """

    def __init__(
        self,
        stream: TextIO | None = None,
        *,
        interval_s: float = 30.0,
        enabled: bool = True,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.stream = stream if stream is not None else sys.stderr
        self.enabled, self.clock = enabled, clock
        self._terminal = self.stream.isatty()
        self._interval_s = 0.2 if self._terminal else interval_s
        self._due = clock() + (0.0 if self._terminal else 2.0)
        self._width = 0

    def show(self, text: str) -> None:
        """Show `text` if the last one is old enough."""
        if not self.enabled or self.clock() < self._due:
            return
        self._due = self.clock() + self._interval_s
        if self._terminal:
            self.stream.write("\r" + text.ljust(self._width))
            self._width = len(text)
        else:
            self.stream.write(text + "\n")
        self.stream.flush()

    def note(self, text: str) -> None:
        """Write a line that stays."""
        if not self.enabled:
            return
        if self._width:
            self.stream.write("\r" + " " * self._width + "\r")
            self._width = 0
        self.stream.write(text + "\n")
        self.stream.flush()

    def done(self) -> None:
        """End the line on a terminal."""
        if self.enabled and self._width:
            self.stream.write("\n")
            self.stream.flush()
            self._width = 0


def describe_duration(seconds: float) -> str:
    """Return a duration as "43s", "12m 05s" or "3h 07m"."""
    whole = int(seconds)
    if whole < 60:
        return f"{whole}s"
    if whole < 3600:
        return f"{whole // 60}m {whole % 60:02d}s"
    return f"{whole // 3600}h {whole % 3600 // 60:02d}m"
