"""Imports tried in a process of their own: one that crashes, ends or hangs takes nothing else with it.

Both ends are here: `try_imports` starts the processes, and this file run as a program is what runs in them. It writes
one line of JSON to a file before and after each import, so that whatever happens, the last line says whose turn it was.
One process tries module after module; only after one that ended it another process continues with the rest.
"""

from __future__ import annotations

import importlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TextIO

from crema_core.errors import OptionsError

LIMIT = "CREMA_PLUGINS_IMPORT_LIMIT"
"""Environment variable: seconds an import may take in `crema plugins doctor` and `crema plugins check`."""
LIMIT_S = 30.0
POLL_S = 0.02

Outcome = Literal["imported", "raised", "ended", "hangs"]


@dataclass(frozen=True)
class Trial:
    """What became of one import in a process of its own."""

    module: str
    outcome: Outcome  # raised: an error; ended: the process is gone; hangs: it was ended after the limit
    fault: str = ""  # what went wrong, in a clause: "the import ended the process with exit code 3"; empty: nothing
    detail: str = ""  # the end of what the process wrote to standard error
    printed: str = ""  # what it wrote to standard output
    seconds: float = 0.0
    modules: tuple[str, ...] = ()  # names of the modules that are new after it

    @property
    def is_harmless(self) -> bool:
        """Whether the same import in this process would at most raise an error."""
        return self.outcome in ("imported", "raised")


def import_limit_s() -> float:
    """Return the seconds an import may take, from `CREMA_PLUGINS_IMPORT_LIMIT`.

    Raises:
        OptionsError: when it is no positive number.
    """
    text = os.environ.get(LIMIT, "")
    try:
        limit_s = float(text or LIMIT_S)
    except ValueError:
        limit_s = 0.0
    if not limit_s > 0:
        raise OptionsError(f"{LIMIT} is '{text}'. Accepted is a number of seconds above 0. Write {LIMIT}={LIMIT_S:.0f}")
    return limit_s


def try_imports(modules: Sequence[str], *, limit_s: float | None = None) -> dict[str, Trial]:
    """Import modules one after the other in another process.

    Args:
        modules: names, `package.module`.
        limit_s: seconds each may take; None: `CREMA_PLUGINS_IMPORT_LIMIT`, or 30.

    Returns:
        module -> what became of it.

    Raises:
        OptionsError: when the environment variable is no number.

    Example:
        >>> try_imports(["json"])["json"].outcome
        'imported'
    """
    limit_s = import_limit_s() if limit_s is None else limit_s
    left, found = list(dict.fromkeys(modules)), {}
    while left:
        for trial in _one_process(left, limit_s):
            found[trial.module] = trial
        left = [module for module in left if module not in found]
    return found


def _one_process(modules: Sequence[str], limit_s: float) -> Iterator[Trial]:
    """Yield the trials of one process, at least one: all, or those up to the one that ended it."""
    with tempfile.TemporaryDirectory(prefix="crema-") as name:
        folder = Path(name)
        log = folder / "log"
        command = [sys.executable, "-W", "ignore", "-m", "crema_core.plugins.trial", str(log), *modules]
        with (folder / "out").open("wb") as out, (folder / "err").open("wb") as err:
            process = subprocess.Popen(
                command, env=fresh_environment(), stdin=subprocess.DEVNULL, stdout=out, stderr=err
            )
            code = _wait(process, log, limit_s)
        lines = _read(log)
        written = (folder / "out").read_bytes()
        detail = (folder / "err").read_text(encoding="utf-8", errors="replace").strip()
    done = [line for line in lines if "outcome" in line]
    for line in done:
        yield Trial(
            line["module"],
            line["outcome"],
            fault=line["fault"],
            detail=line["detail"],
            printed=_text(written[line["begin"] : line["end"]]),
            seconds=line["seconds"],
            modules=tuple(line["modules"]),
        )
    if len(done) < len(modules):
        module, rest = modules[len(done)], _text(written[done[-1]["end"] if done else 0 :])
        if code is None:
            yield Trial(module, "hangs", f"the import was not done after {limit_s:g} s", detail, rest, limit_s)
        else:
            yield Trial(module, "ended", f"the import ended the process {ending(code)}", detail, rest)


def _wait(process: subprocess.Popen[bytes], log: Path, limit_s: float) -> int | None:
    """Wait for a process and return its exit code; None: an import took too long and the process was ended."""
    size, since = -1, time.monotonic()
    while process.poll() is None:
        now_size = log.stat().st_size if log.exists() else 0
        if now_size != size:
            size, since = now_size, time.monotonic()
        if time.monotonic() - since > limit_s:
            process.kill()
            process.wait()
            return None
        time.sleep(POLL_S)
    return process.returncode


def _text(written: bytes) -> str:
    return written.decode("utf-8", errors="replace")


def _read(log: Path) -> list[dict[str, Any]]:
    text = log.read_text(encoding="utf-8") if log.exists() else ""
    return [json.loads(line) for line in text.splitlines(keepends=True) if line.endswith("\n")]


def ending(code: int) -> str:
    """Return how a process ended: `with exit code 3`, `with signal SIGSEGV`.

    Example:
        >>> ending(0)
        'with exit code 0'
    """
    if code >= 0:
        return f"with exit code {code}"
    try:
        return f"with signal {signal.Signals(-code).name}"
    except ValueError:
        return f"with signal {-code}"


def fresh_environment() -> dict[str, str]:
    """Return variables for a process that finds what this one finds, also what was put on its path meanwhile."""
    return {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}


def _run(log: Path, modules: Sequence[str]) -> None:
    """Import the modules in this fresh process."""
    importlib.import_module("crema_core.plugins.spec")  # what core itself brings does not count
    end, own = 0, sys.stdout  # an import may replace it
    with log.open("a", encoding="utf-8") as file:
        for module in modules:
            _write(file, {"module": module})
            begin, before, start = end, set(sys.modules), time.perf_counter()
            fault, detail = _import(module)
            facts = {
                "outcome": "raised" if fault else "imported",
                "fault": fault,
                "detail": detail,
                "seconds": time.perf_counter() - start,
                "modules": sorted(set(sys.modules) - before),
            }
            for stream in (sys.stdout, own):
                stream.flush()
            end = os.lseek(1, 0, os.SEEK_CUR)
            _write(file, {"module": module, "begin": begin, "end": end, **facts})
    os._exit(0)  # threads that an import started may never end


def _import(module: str) -> tuple[str, str]:
    """Import a module; returns what it raised, in one line and as a traceback, or two empty texts."""
    try:
        importlib.import_module(module)
    except BaseException as error:  # noqa: BLE001 - whatever it is, is the answer
        return f"{type(error).__name__}: {error}", "".join(traceback.format_exception(error)).strip()
    return "", ""


def _write(file: TextIO, facts: dict[str, Any]) -> None:
    """Write one line; the next import may end the process at once."""
    file.write(json.dumps(facts) + "\n")
    file.flush()


if __name__ == "__main__":
    _run(Path(sys.argv[1]), sys.argv[2:])
