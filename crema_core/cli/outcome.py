"""How a verb that cannot finish says so: on standard error, or to the launcher that started this process.

`--processes N` starts N processes of the same verb. When one fails the others soon fail too, with messages about lost
connections; so each leaves its message in a folder, and the launcher prints the one that explains the others.
"""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path
from typing import NamedTuple

from crema_core.common.atomic import write_text

FOLDER = "CREMA_LAUNCH_FOLDER"
"""Environment variable: the folder of the launch."""


class Outcome(NamedTuple):
    """Why a process ended.

    Attributes:
        message: for people.
        code: its exit code.
        is_consequence: whether another process's end was the cause.
        time_ns: when.
    """

    message: str
    code: int
    is_consequence: bool
    time_ns: int


def fail(message: str, code: int, *, is_consequence: bool = False) -> int:
    """Say why the verb ends and return its exit code.

    Args:
        message: for people.
        code: the exit code.
        is_consequence: another process of the launch ended first.
    """
    folder = os.environ.get(FOLDER)
    if folder is None:
        print(f"crema: {message}", file=sys.stderr)
        return code
    outcome = Outcome(message, code, is_consequence, time.time_ns())
    write_text(Path(folder) / f"outcome-{rank()}.json", json.dumps(outcome._asdict()))
    return code


def enrol() -> None:
    """Tell the launcher, if there is one, which process this is, so that Ctrl-C reaches it."""
    folder = os.environ.get(FOLDER)
    if folder is not None:
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
