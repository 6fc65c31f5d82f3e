"""Processes as the checks see them: what an import brings, what a worker process prepares, which state is changed.

A used process cannot answer such questions, so fresh ones are asked. Light modules are tried by
`crema_core.plugins.trial`; for heavy ones both ends of the conversation are here: the functions that start a process,
and what runs in it. Only what compares states imports torch.
"""

from __future__ import annotations

import atexit
import functools
import importlib
import json
import logging
import os
import pickle
import random
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from crema_core.errors import ConformanceError, CremaError, MediaError, MissingRequirementError
from crema_core.plugins.fence import fenced
from crema_core.plugins.trial import Trial, ending, fresh_environment, import_limit_s, try_imports

UNCOMMON = 91_723_177


HEAVY_LIMITS = 4
"""A heavy module, and what the job does with it, may take this many times as long as a light one."""


def light_import(module: str) -> Trial:
    """Import a module in a process without torch.

    Raises:
        ConformanceError: when the import fails there.
    """
    trial = try_imports([module])[module]
    if trial.outcome != "imported":
        raise ConformanceError(
            f"{module} cannot be imported in a fresh process: {trial.fault}. Listing does exactly that. Run: python -c "
            f"'import {module}'\n{trial.detail}".strip()
        )
    return trial


class Reading(NamedTuple):
    """What became of one file that a modality was given in a process of its own."""

    path: str
    is_read: bool  # a sample came back
    is_refused: bool = False  # with an error that a user understands
    text: str = ""  # what happened instead of a sample, for messages


def read_files(module: str, modality: Any, paths: Sequence[str]) -> list[Reading] | None:
    """Give files to `prepare` in another process, one after the other, up to one that ends the process.

    Args:
        module: of the modality's class.
        modality: is pickled.
        paths: the files.

    Returns:
        what became of each; None where the modality cannot be taken to another process, as one from a notebook.
    """
    try:
        job = pickle.dumps((modality, list(paths)))
    except Exception:  # noqa: BLE001 - another check looks at that
        return None
    outcome = heavy_import(module, job, reads=True)
    found = [Reading(**line) for line in outcome["readings"]]
    if found and not found[-1].is_read and not found[-1].text:  # begun, and not survived
        fault = str(outcome["fault"]).replace("it ended", "it ended the process", 1)
        found[-1] = found[-1]._replace(text=f"no sample and no error: {fault}")
    return found or None


def heavy_import(module: str, job: bytes | None = None, *, reads: bool = False) -> dict[str, Any]:
    """Import a module in a process that has torch and core but no plugin yet, and let it do a job.

    The job is a pickled pair `(modality, source)`, with `reads` of a modality and a list of files. Returned are
    `changes` (names of the state the import changed), `fault` (why the import or the job failed, or None), `is_gone`
    (whether the process did not survive it, or had to be ended because it took too long), `sample` (what `prepare`
    made, pickled, or None) and `readings` (facts of every file that was begun, see `Reading`).
    """
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        if job is not None:
            (place / "job").write_bytes(job)
        limit_s = HEAVY_LIMITS * import_limit_s()
        request = {
            "path": sys.path,
            "module": module,
            "folder": folder,
            "directory": str(Path.cwd()),
            "limit_s": limit_s,
            "reads": reads,
        }
        host = _host()
        assert host.stdin is not None
        assert host.stdout is not None
        host.stdin.write(json.dumps(request) + "\n")
        host.stdin.flush()
        line = host.stdout.readline()
        if not line:  # there is no fork here, and it was the host itself that ended
            line = str(host.wait())
            _host.cache_clear()
        sample, written, readings = place / "sample", place / "answer", _readings(place / READINGS)
        if not written.exists():
            fault = f"it was not done after {limit_s:g} s" if line.strip() == LATE else f"it ended {ending(int(line))}"
            return {"changes": [], "fault": fault, "is_gone": True, "sample": None, "readings": readings}
        result: dict[str, Any] = json.loads(written.read_text(encoding="utf-8"))
        made = sample.read_bytes() if sample.exists() else None
        return {**result, "is_gone": False, "sample": made, "readings": readings}


def _readings(log: Path) -> list[dict[str, Any]]:
    """Return the last line of every file: a second one follows when it was survived."""
    lines = log.read_text(encoding="utf-8").splitlines() if log.exists() else []
    return list({line["path"]: line for line in map(json.loads, lines)}.values())


@functools.cache
def _host() -> subprocess.Popen[str]:
    """Start the process that waits for jobs; importing torch once serves every modality."""
    command = [sys.executable, "-W", "ignore", "-m", "crema_core.testing.probing"]
    host = subprocess.Popen(command, env=fresh_environment(), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    atexit.register(_stop, host)
    return host


def _stop(host: subprocess.Popen[str]) -> None:
    host.terminate()
    host.communicate()  # closes its pipes and waits


READINGS = "readings"
LATE = "late"
"""What `serve` prints for a child that it had to end; else the child's exit code."""
POLL_S = 0.01


def serve() -> None:
    """Answer one request per line of the input, with torch and core imported but no plugin.

    Every request is answered in a child of its own, so that one modality never sees another: a fork where there is one,
    else this process itself, which then has no second request.
    """
    import torch  # and numpy with it: a request finds both imported

    importlib.import_module("crema_core.modality")
    importlib.import_module("crema_core.testing.probing")
    torch.set_num_threads(1)
    for line in sys.stdin:
        request = json.loads(line)
        child = os.fork() if hasattr(os, "fork") else 0
        ended = "0"
        if child == 0:
            answer(request)
            if hasattr(os, "fork"):
                os._exit(0)
        else:
            ended = _wait(child, float(request["limit_s"]))
        print(ended, flush=True)


def _wait(child: int, limit_s: float) -> str:
    """Wait for a child and return its exit code as a text; `LATE` when it had to be ended."""
    until = time.monotonic() + limit_s
    while True:
        process, status = os.waitpid(child, os.WNOHANG)
        if process:
            return str(os.waitstatus_to_exitcode(status))
        if time.monotonic() > until:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            return LATE
        time.sleep(POLL_S)


def answer(request: dict[str, Any]) -> None:
    """Import the module, compare the process's state, do the job, and write the outcome into the request's folder."""
    place = Path(request["folder"])
    sys.path[:] = request["path"]
    os.chdir(request["directory"])
    result: dict[str, Any] = {"changes": [], "fault": None}
    try:
        before = snapshot()
        with _fence_of_the_kit(), _standard_output() as printed:
            importlib.import_module(request["module"])
        result["changes"] = changes(before, snapshot())
        result["changes"] += [f"standard output, to which it prints {text!r}" for text in printed if text]
        result["changes"] += [f"transformers' model types by '{name}'" for name in registered_model_types()]
        job = place / "job"
        if job.exists():
            # Written by the checking process a moment ago, never a file of the user's.
            with _fence_of_the_kit():
                modality, source = pickle.loads(job.read_bytes())
                if request["reads"]:
                    _read_each(modality, source, place / READINGS)
                else:
                    (place / "sample").write_bytes(pickle.dumps(modality.prepare(source)))
    except Exception:  # noqa: BLE001 - a fault of foreign code is the answer
        result["fault"] = traceback.format_exc(limit=-1).strip()
    (place / "answer").write_text(json.dumps(result), encoding="utf-8")


def _read_each(modality: Any, paths: Sequence[str], log: Path) -> None:
    """Read files and write one line before and one after each: a fault of native code ends the process in between."""
    from crema_core.data import modality_calls

    with log.open("w", encoding="utf-8") as file:
        for path in paths:
            reading = Reading(path, is_read=False)
            file.write(json.dumps(reading._asdict()) + "\n")
            file.flush()
            try:
                modality_calls.prepare(modality, path)
                reading = reading._replace(is_read=True, text="no error")
            except CremaError as error:
                refused = isinstance(error, MediaError | MissingRequirementError)
                reading = reading._replace(is_refused=refused, text=f"{type(error).__name__}: {error}")
            file.write(json.dumps(reading._asdict()) + "\n")
            file.flush()


def _fence_of_the_kit() -> AbstractContextManager[None]:
    return fenced("checking it", provider="", patience_s=None)


@contextmanager
def _standard_output() -> Iterator[list[str]]:
    """Yield a list that has, after the block, the first line of what was written to standard output in it."""
    found: list[str] = []
    kept, stream = os.dup(1), sys.stdout
    try:
        with tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as file:
            os.dup2(file.fileno(), 1)
            sys.stdout = file
            try:
                yield found
            finally:
                sys.stdout = stream
                os.dup2(kept, 1)
            file.seek(0)
            found += file.readlines()[:1]
    finally:
        os.close(kept)


def snapshot() -> dict[str, str]:
    """Return what must stay as it is, by name, in comparable form."""
    import numpy as np
    import torch

    root = logging.getLogger()
    return {
        "the random generator of torch": str(torch.get_rng_state().numpy().tobytes()),
        "the random generator of numpy": str(np.random.get_state()),  # noqa: NPY002 - the global one is meant
        "the random generator of python": str(random.getstate()),
        "torch's default dtype": str(torch.get_default_dtype()),
        "torch's gradient mode": str(torch.is_grad_enabled()),
        "torch's deterministic mode": str(torch.are_deterministic_algorithms_enabled()),
        "torch's number of threads": str(torch.get_num_threads()),
        "the environment variables": str(sorted(os.environ.items())),
        "the working directory": str(Path.cwd()),
        "the root logger": f"{root.level} {root.handlers}",
    }


@contextmanager
def fresh_generators() -> Iterator[None]:
    """Put the global generators into states nobody else sets, so that seeding them is seen; restored at the end."""
    import numpy as np
    import torch

    numpy_state, python_state = np.random.get_state(), random.getstate()  # noqa: NPY002 - the global one is meant
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(UNCOMMON)
        np.random.seed(UNCOMMON)  # noqa: NPY002
        random.seed(UNCOMMON)
        try:
            yield
        finally:
            np.random.set_state(numpy_state)  # noqa: NPY002
            random.setstate(python_state)


def registered_model_types() -> list[str]:
    """Return the model types somebody added to those transformers has; importing it only if it already was."""
    if "transformers" not in sys.modules:
        return []
    from transformers import CONFIG_MAPPING
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING_NAMES  # type: ignore[attr-defined]

    return sorted(set(CONFIG_MAPPING.keys()) - set(CONFIG_MAPPING_NAMES))


def changes(before: dict[str, str], after: dict[str, str]) -> list[str]:
    """Return the names of what changed."""
    return [name for name, value in before.items() if after[name] != value]


if __name__ == "__main__":
    serve()
