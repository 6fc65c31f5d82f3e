"""The fence around code of installed packages: it cannot end the program, spoil the output, or hang without a name.

Every import of a package, every call of its hooks and every construction of its classes goes through `fenced`:

- `sys.exit()` and every other exception that is no `Exception` become a `PluginExitError`, which the caller turns into
  an error that names the package. Only Ctrl+C keeps its meaning.
- What is printed goes to standard error, because standard output holds results, often as JSON.
- What takes longer than a few seconds is named on standard error, with the way to switch it off.

`os._exit`, a crash of native code and a deadlock cannot be caught in the same process, and end or stop every other verb
without a message of ours: `crema plugins doctor` and `crema plugins check` try imports in another process first
(`crema_core.plugins.trial`), and the check reads damaged files in another one (`crema_core.testing.probing`).
"""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import TextIO

from crema_core.errors import PluginExitError

DISABLE = "CREMA_PLUGINS_DISABLE"
"""Environment variable: distributions or names that are switched off, separated by commas."""
PATIENCE_S = 5.0
"""Seconds until code of a package that does not return is named."""


@contextmanager
def fenced(doing: str, *, provider: str, patience_s: float | None = PATIENCE_S) -> Iterator[None]:
    """Run code of a package inside the block.

    Args:
        doing: what is done, for messages: "importing crema_radar.plugin".
        provider: whose code it is, `distribution version`.
        patience_s: seconds until it is named on standard error when it does not return; None: never.

    Raises:
        PluginExitError: when it calls `sys.exit` or raises another exception that is no `Exception`; the cause is
            chained. An `Exception` and `KeyboardInterrupt` pass through unchanged.

    Example:
        >>> with fenced("importing crema_radar.plugin", provider="crema-radar 0.1.0"):
        ...     raise SystemExit(0)
        Traceback (most recent call last):
        crema_core.errors.PluginExitError: SystemExit: 0, which would have ended the program
    """
    timer = None if patience_s is None else _announce_later(doing, provider, patience_s)
    try:
        with _OUTPUT.diverted():
            yield
    except (Exception, KeyboardInterrupt, GeneratorExit):
        raise
    except BaseException as error:
        name = type(error).__name__
        text = "" if isinstance(error, SystemExit) and error.code is None else f": {error}"
        raise PluginExitError(f"{name}{text}, which would have ended the program") from error
    finally:
        if timer is not None:
            timer.cancel()


def fault_text(error: Exception) -> str:
    """Return what a package's code raised, in one line: `ValueError: boom`."""
    return str(error) if isinstance(error, PluginExitError) else f"{type(error).__name__}: {error}"


def switch_off(distribution: str) -> str:
    """Return what switches a package off: `CREMA_PLUGINS_DISABLE=crema-radar`."""
    return f"{DISABLE}={distribution}"


def _announce_later(doing: str, provider: str, patience_s: float) -> threading.Timer:
    distribution = provider.partition(" ")[0]
    text = (
        f"crema: {provider} has been {doing} for {patience_s:.0f} s. If it never ends, press Ctrl+C and switch the "
        f"package off: {switch_off(distribution)}"
    )
    # A thread and not a signal: a signal reaches only the main thread, and its handler may belong to somebody else.
    timer = threading.Timer(patience_s, lambda: print(text, file=sys.stderr, flush=True))
    timer.daemon = True
    timer.start()
    return timer


class _Output:
    """Standard output of this process, and how many blocks divert it: the outermost one diverts and restores it."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.num_blocks = 0
        self.stream: TextIO | None = None
        self.descriptor: int | None = None

    @contextmanager
    def diverted(self) -> Iterator[None]:
        """Send what is written inside the block to standard error, also by native code and by processes it starts."""
        with self.lock:
            self.num_blocks += 1
            if self.num_blocks == 1:
                self._divert()
        try:
            yield
        finally:
            with self.lock:
                self.num_blocks -= 1
                if self.num_blocks == 0:
                    self._restore()

    def _divert(self) -> None:
        _flush(sys.stdout)  # what was written before belongs to standard output
        self.stream, self.descriptor = sys.stdout, _divert_descriptor()
        sys.stdout = sys.stderr

    def _restore(self) -> None:
        for stream in (sys.stdout, sys.__stdout__):
            _flush(stream)
        if self.descriptor is not None:
            os.dup2(self.descriptor, 1)
            os.close(self.descriptor)
        assert self.stream is not None or sys.__stdout__ is None
        sys.stdout = self.stream
        self.stream = self.descriptor = None


_OUTPUT = _Output()


def _divert_descriptor() -> int | None:
    """Let file descriptor 1 write to standard error and return a copy of what it was; None where it is not ours."""
    try:
        if sys.__stdout__ is None or sys.__stderr__ is None:
            return None
        if (sys.__stdout__.fileno(), sys.__stderr__.fileno()) != (1, 2):
            return None
        kept = os.dup(1)
    except (OSError, ValueError):  # closed, or no file at all
        return None
    try:
        os.dup2(2, 1)
    except OSError:
        os.close(kept)
        return None
    return kept


def _flush(stream: TextIO | None) -> None:
    if stream is not None:
        with suppress(OSError, ValueError):  # its reader went away, or it is closed: reported where it is used
            stream.flush()
