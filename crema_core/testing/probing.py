"""Fresh processes for the checks that a used one cannot answer: what an import brings, what a worker process sees."""

from __future__ import annotations

import atexit
import functools
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from crema_core.errors import ConformanceError


def light_import(module: str) -> dict[str, Any]:
    """Import a module in a process without torch; returns `seconds` and the names of the new `modules`.

    Raises:
        ConformanceError: when the import fails there.
    """
    command = [sys.executable, "-W", "ignore", "-m", "crema_core.testing.light_probe", module]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise ConformanceError(
            f"{module} cannot be imported in a fresh process. Listing does exactly that. Run: python -c 'import "
            f"{module}'\n{done.stderr.strip()}"
        )
    facts: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return facts


def heavy_import(module: str, job: bytes | None = None) -> dict[str, Any]:
    """Import a module in a process that has torch and core but no plugin yet, and let it do a job.

    Args:
        module: the module of the sense's class.
        job: a pickled pair `(modality, source)`; the sample that `prepare` makes of it comes back pickled.

    Returns:
        `changes` (names of the state the import changed), `fault` (why the import or the job failed, or None) and
        `sample` (bytes, or None).
    """
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        if job is not None:
            (place / "job").write_bytes(job)
        request = {"path": sys.path, "module": module, "folder": folder, "directory": str(Path.cwd())}
        host = _host()
        assert host.stdin is not None
        assert host.stdout is not None
        host.stdin.write(json.dumps(request) + "\n")
        host.stdin.flush()
        host.stdout.readline()
        result: dict[str, Any] = json.loads((place / "answer").read_text(encoding="utf-8"))
        sample = place / "sample"
        return {**result, "sample": sample.read_bytes() if sample.exists() else None}


@functools.cache
def _host() -> subprocess.Popen[str]:
    """Start the process that waits for jobs; importing torch once serves every sense."""
    command = [sys.executable, "-W", "ignore", "-m", "crema_core.testing.heavy_probe"]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    host = subprocess.Popen(command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    atexit.register(_stop, host)
    return host


def _stop(host: subprocess.Popen[str]) -> None:
    host.terminate()
    host.communicate()  # closes its pipes and waits
