"""`--processes N`: the same verb in N processes on this machine, started by accelerate's launcher.

The launcher ends them all when one fails and prints one message. Ctrl-C is handed on to them, so that training saves
itself as it does in one process, however long its last update takes.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import tempfile
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

from crema_core.cli.outcome import FOLDER, enrolled, outcomes
from crema_core.errors import OptionsError

FAILED, INTERRUPTED = 1, 130


def add_processes(parser: argparse.ArgumentParser) -> None:
    """Add `--processes`."""
    parser.add_argument(
        "--processes", type=int, default=1, metavar="N", help="processes that share the work, one per GPU; default: 1"
    )


def wants_launch(arguments: argparse.Namespace) -> bool:
    """Return whether this process is to start others instead of working itself.

    Raises:
        OptionsError: for a number of processes that cannot be started.
    """
    count = arguments.processes
    if count < 1:
        raise OptionsError(
            f"--processes {count} starts nothing. Accepted: 1 and more. Give the number of GPUs, or of groups of CPU "
            "cores, that are to work."
        )
    if count > 1 and int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise OptionsError(
            f"--processes {count} inside a launch of {os.environ['WORLD_SIZE']} processes (WORLD_SIZE). One launcher "
            "is enough. Leave --processes out, or start crema without the other launcher."
        )
    return bool(count > 1)


def launch(words: Sequence[str], count: int) -> int:
    """Run `crema` in several processes and return the exit code.

    Args:
        words: what follows `crema` on the command line; `--processes` is left out of it.
        count: number of processes.

    Raises:
        OptionsError: when there are fewer GPUs.
    """
    from crema_core.train.launch import LaunchedProcessError, run_processes

    with tempfile.TemporaryDirectory(prefix="crema-") as name:
        folder = Path(name)
        try:
            with _interrupts_handed_on(folder):
                run_processes("crema_core.cli.main", without_processes(words), count, environment={FOLDER: name})
        except LaunchedProcessError as error:
            found = outcomes(folder)
            told = found[0] if found else None
            if told is None or (told.is_consequence and error.num_silent):
                print(f"crema: {error}", file=sys.stderr)
                return FAILED
            print(f"crema: {told.message}", file=sys.stderr)
            return told.code
    return 0


def without_processes(words: Sequence[str]) -> list[str]:
    """Return the words without `--processes N`."""
    kept: list[str] = []
    rest = iter(words)
    for word in rest:
        if word == "--processes":
            next(rest, None)
        elif not word.startswith("--processes="):
            kept.append(word)
    return kept


@contextmanager
def _interrupts_handed_on(folder: Path) -> Iterator[None]:
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    presses = 0

    def hand_on(number: int, frame: FrameType | None) -> None:
        nonlocal presses
        presses += 1
        begun = enrolled(folder)
        if not begun or presses > 2:  # a third one ends them without asking
            raise KeyboardInterrupt
        for process in begun:
            _interrupt(process)

    previous = signal.signal(signal.SIGINT, hand_on)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, previous)


def _interrupt(process: int) -> None:
    try:
        os.kill(process, signal.SIGINT)
    except ProcessLookupError:
        return  # it ended by itself
