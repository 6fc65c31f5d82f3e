"""A fresh environment with wheels of ours; only the heavy libraries are shared with this interpreter, by links."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from tests.support.dummies import build_wheels

ROOT = Path(__file__).parents[2]
OURS = ("crema", "__editable__", "_virtualenv", "distutils-precedence")


class Done(NamedTuple):
    """What became of a command: its exit code and what it printed."""

    code: int
    out: str
    err: str


COMMANDS = """
import contextlib, io, json, os, sys
from crema_core.cli.main import main
found = []
for words in json.loads(sys.argv[1]):
    out, err = io.StringIO(), io.StringIO()
    variables = {}
    while words[0].partition("=")[0].isupper():
        name, _, variables[name] = words.pop(0).partition("=")
    os.environ |= variables
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        if words[0] == "python":
            code = exec(words[1], {"ARGUMENTS": words[2:]}) or 0
        else:
            code = main(words)
    for name in variables:
        del os.environ[name]
    found.append((code, out.getvalue(), err.getvalue()))
print(json.dumps(found))
"""


@dataclass(frozen=True)
class User:
    """Somebody away from the checkout.

    Attributes:
        place: a folder of theirs; `core` in it is what the wheel of core was built from.
        python: their interpreter.
    """

    place: Path
    python: Path

    def run(self, *words: str) -> str:
        """Run their interpreter in their home folder and return what it printed."""
        done = self._run([str(self.python), *words], {})
        assert done.code == 0, done.out + done.err
        return done.out

    @property
    def home(self) -> Path:
        """Where their commands run."""
        (self.place / "home").mkdir(exist_ok=True)
        return self.place / "home"

    def crema(self, *words: str, timeout_s: float | None = None, **variables: str) -> Done:
        """Run their `crema` command; after `timeout_s` Ctrl+C is pressed."""
        return self._run([str(self.python.with_name("crema")), *words], variables, timeout_s)

    def commands(self, *commands: Sequence[str]) -> list[Done]:
        """Run several command lines in one process, because importing torch takes longer than most of them.

        Each is the words after `crema`, or `python`, a script and its `ARGUMENTS`; `NAME=value` before them sets a
        variable.
        """
        printed = self.run("-c", COMMANDS, json.dumps([list(words) for words in commands]))
        return [Done(*found) for found in json.loads(printed.splitlines()[-1])]

    def pip(self, *words: str) -> None:
        """Install or remove packages."""
        command = [sys.executable, "-m", "pip", "--python", str(self.python), "--quiet", "--disable-pip-version-check"]
        done = subprocess.run([*command, *words], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr

    def install(self, *packages: Path) -> None:
        """Install wheels of source folders, in place of whatever version is there."""
        wheels = build_wheels(list(packages), Path(tempfile.mkdtemp(dir=self.place)))
        self.pip("install", "--no-deps", "--no-index", "--force-reinstall", *map(str, wheels))

    def _run(self, command: Sequence[str], variables: Mapping[str, str], timeout_s: float | None = None) -> Done:
        fixed = {"PATH": os.environ["PATH"], "HOME": str(self.home), "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
        process = subprocess.Popen(
            command,
            cwd=self.home,
            env={**fixed, **variables},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            preexec_fn=_hear_ctrl_c,
        )
        try:
            out, err = process.communicate(timeout=timeout_s)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGINT)
            out, err = process.communicate(timeout=120)
        return Done(process.returncode, out, err)


def _hear_ctrl_c() -> None:
    """Undo what a shell that runs the tests in the background does to Ctrl-C."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def new_user(place: Path, packages: list[Path]) -> User:
    """Make an environment with the wheels of core and of `packages`, built from their source folders."""
    core = _source_of_core(place / "core")
    wheels = build_wheels([core, *packages], place / "build")
    user = User(place, _fresh_environment(place / "environment"))
    user.pip("install", "--no-deps", "--no-index", *map(str, wheels))
    return user


def _source_of_core(place: Path) -> Path:
    """Copy what a wheel of core is built from."""
    place.mkdir(parents=True)
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        if (ROOT / name).exists():
            shutil.copy(ROOT / name, place / name)
    shutil.copytree(ROOT / "crema_core", place / "crema_core", ignore=shutil.ignore_patterns("__pycache__"))
    return place


def _fresh_environment(place: Path) -> Path:
    """Make an environment that holds none of our packages and links to every other installed one."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(place)], check=True)
    (site,) = place.glob("lib/python*/site-packages")
    for installed in {sysconfig.get_path("purelib"), sysconfig.get_path("platlib")}:
        for entry in Path(installed).iterdir():
            if not entry.name.startswith(OURS) and entry.suffix != ".pth" and not (site / entry.name).exists():
                (site / entry.name).symlink_to(entry)
    return place / "bin" / "python"
