"""A fresh environment with wheels of ours; only the heavy libraries are shared with this interpreter, by links."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
from dataclasses import dataclass
from pathlib import Path

from tests.support.dummies import build_wheels

ROOT = Path(__file__).parents[2]
OURS = ("crema", "__editable__", "_virtualenv", "distutils-precedence")


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
        home = self.place / "home"
        home.mkdir(exist_ok=True)
        environment = {"PATH": os.environ["PATH"], "HOME": str(home), "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
        command = [str(self.python), *words]
        done = subprocess.run(command, cwd=home, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout


def new_user(place: Path, packages: list[Path]) -> User:
    """Make an environment with the wheels of core and of `packages`, built from their source folders."""
    core = _source_of_core(place / "core")
    wheels = build_wheels([core, *packages], place / "build")
    python = _fresh_environment(place / "environment")
    command = [sys.executable, "-m", "pip", "--python", str(python), "install", "--quiet", "--no-deps", "--no-index"]
    done = subprocess.run(
        [*command, "--disable-pip-version-check", *map(str, wheels)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return User(place, python)


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
