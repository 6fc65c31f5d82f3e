"""`--processes N`: the same verb in N processes on this machine, started by accelerate's launcher, and how it ends.

When one process fails the others soon fail too, with messages about lost connections; so each leaves its message in a
folder, and the launcher ends them all and prints the message that explains the others. Ctrl-C and SIGTERM are handed
on to them, so that training saves itself as it does in one process, however long its last update takes.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import NamedTuple

from crema_core.common.atomic import write_text
from crema_core.common.parent import end_with_parent
from crema_core.common.stopping import INTERRUPTED, TERMINATED, handled, stop_for
from crema_core.errors import OptionsError

FAILED = 1
STOPPED = (INTERRUPTED, TERMINATED)
FOLDER = "CREMA_LAUNCH_FOLDER"
"""Environment variable: the folder of the launch."""
LAUNCHER = "CREMA_LAUNCHER"
"""Environment variable: the id of the process that started the launch, with which its processes end."""


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
    """Run `crema` with these words, without `--processes`, in `count` processes and return the exit code.

    Raises:
        OptionsError: when there are fewer GPUs.
    """
    from crema_core.train.launch import LaunchedProcessError, run_processes

    with tempfile.TemporaryDirectory(prefix="crema-") as name:
        folder = Path(name)
        try:
            with _signals_handed_on(folder) as seen:
                run_processes(
                    "crema_core.cli.main",
                    without_processes(words),
                    count,
                    environment={FOLDER: name, LAUNCHER: str(os.getpid())},
                )
        except LaunchedProcessError as error:
            found = outcomes(folder)
            if not seen:  # the launcher ended them when another one failed
                found = [one._replace(is_consequence=one.is_consequence or one.code in STOPPED) for one in found]
                found.sort(key=lambda one: one.is_consequence)
            told = found[0] if found else None
            if told is None and seen:  # they were stopped before they could say so
                raise stop_for(seen[0]) from None
            if told is None or (told.is_consequence and error.num_silent):
                print(f"crema: {error}", file=sys.stderr)
                return FAILED
            print(f"crema: {told.message}", file=sys.stderr)
            return told.code
    return 0


def without_processes(words: Sequence[str]) -> list[str]:
    """Return the words without `--processes N`."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    add_processes(parser)
    return parser.parse_known_args(words)[1]


@contextmanager
def _signals_handed_on(folder: Path) -> Iterator[list[int]]:
    """Hand Ctrl-C and SIGTERM on inside the block; yielded is what came so far."""
    seen: list[int] = []

    def hand_on(number: int, frame: FrameType | None) -> None:
        seen.append(number)
        begun = enrolled(folder)
        if not begun or seen.count(signal.SIGINT) > 2:  # a third one ends them without asking
            raise stop_for(number)
        for process in begun:
            with suppress(ProcessLookupError):  # it ended by itself
                os.kill(process, number)

    with handled(hand_on, only_default=False):
        yield seen


class Outcome(NamedTuple):
    """Why a process ended: for people, as exit code, whether another process's end was the cause, and when."""

    message: str
    code: int
    is_consequence: bool
    time_ns: int


def fail(message: str, code: int, *, is_consequence: bool = False) -> int:
    """Say why the verb ends and return its exit code; `is_consequence`: another process of the launch ended first."""
    folder = os.environ.get(FOLDER)
    if folder is None:
        print(f"crema: {message}", file=sys.stderr)
        return code
    outcome = Outcome(message, code, is_consequence, time.time_ns())
    write_text(Path(folder) / f"outcome-{rank()}.json", json.dumps(outcome._asdict()))
    return code


def enrol() -> None:
    """Tell the launcher, if there is one, which process this is, so that Ctrl-C reaches it; and end when it ends."""
    folder = os.environ.get(FOLDER)
    if folder is not None:
        if (launcher := os.environ.get(LAUNCHER)) is not None:
            end_with_parent(int(launcher))
        (Path(folder) / f"process-{os.getpid()}").write_text("", encoding="utf-8")


def enrolled(folder: Path) -> list[int]:
    """Return the ids of the processes of a launch that have begun."""
    return [int(path.name.removeprefix("process-")) for path in folder.glob("process-*")]


def outcomes(folder: Path) -> list[Outcome]:
    """Return what the processes of a launch left, causes before consequences, then by time."""
    found = [Outcome(**json.loads(path.read_text(encoding="utf-8"))) for path in folder.glob("outcome-*.json")]
    return sorted(found, key=lambda one: (one.is_consequence, one.time_ns))


def rank() -> int:
    """Return the number of this process in its launch, 0 outside of one; only 0 prints."""
    return int(os.environ.get("RANK", "0"))
