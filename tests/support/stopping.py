"""A command line with processes of its own, told to stop from outside while they work."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import psutil

COME_S = 300
END_S = 60


class Stopped(NamedTuple):
    """How it ended."""

    code: int
    lines: list[str]  # of standard error
    seconds: float
    left: list[psutil.Process]


def stopped(
    words: Sequence[str], signals: Sequence[signal.Signals], folder: Path, *, to_all: bool, tries: int = 3
) -> Stopped:
    """Start `crema`, wait until its two processes have begun, and send signals.

    Args:
        words: of the command line, with `--processes 2`.
        signals: a tenth of a second apart.
        folder: to run in.
        tries: how often to start again, in the emptied folder, a command that was done before it was looked at.
        to_all: as a terminal sends Ctrl-C to every process of the program; else to the one that was started alone.
    """
    errors = folder / "errors.txt"
    with errors.open("w") as handle:
        started = subprocess.Popen(
            [sys.executable, "-m", "crema_core.cli.main", *words],
            stdout=subprocess.DEVNULL,
            stderr=handle,
            cwd=folder,
            start_new_session=True,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )
    children: list[psutil.Process] = []
    until = time.monotonic() + COME_S
    while len([own for own in children if own.num_threads() > 1]) < 2:  # each watches this one by a thread
        if started.poll() == 0 and tries > 1:  # a busy machine
            shutil.rmtree(folder)
            folder.mkdir()
            return stopped(words, signals, folder, to_all=to_all, tries=tries - 1)
        assert started.poll() is None, errors.read_text()
        assert time.monotonic() < until
        time.sleep(0.02)
        children = psutil.Process(started.pid).children(recursive=True)
    begun = time.monotonic()
    for number in signals:
        (os.killpg if to_all else os.kill)(started.pid, number)
        time.sleep(0.1)
    code = started.wait(END_S)
    seconds = time.monotonic() - begun
    _, left = psutil.wait_procs(children, timeout=20)
    left = [own for own in left if own.is_running() and own.status() != psutil.STATUS_ZOMBIE]
    for own in left:
        own.kill()
    return Stopped(code, errors.read_text().splitlines(), seconds, left)
