"""The dummy distributions of tests/plugins, built as wheels and put on the path with their real metadata."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from filelock import FileLock

from crema_core.plugins import registry

SOURCES = Path(__file__).parents[1] / "plugins"


BUILD = """
import os, sys
from setuptools import build_meta
wheels, *sources = sys.argv[1:]
for source in sources:
    os.chdir(source)
    build_meta.build_wheel(wheels)
"""


def build_wheels(sources: list[Path], place: Path) -> list[Path]:
    """Build a wheel of every source folder, without network and without writing into the folders.

    Their build backend is called as pip would call it, all in one process: pip starts two for each.
    """
    copies = [Path(shutil.copytree(source, place / "sources" / source.name)) for source in sources]
    (place / "wheels").mkdir()
    command = [sys.executable, "-c", BUILD, str(place / "wheels"), *map(str, copies)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return sorted((place / "wheels").glob("*.whl"))


@pytest.fixture(scope="session")
def dummies(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with one import path per dummy distribution: `dummies / "good"` holds its package and metadata.

    Built once, also when several test processes run.
    """
    shared = tmp_path_factory.getbasetemp()
    shared = shared.parent if shared.name.startswith("popen-") else shared
    place = shared / "dummies"
    with FileLock(str(shared / "dummies.lock")):
        if not (place / "done").exists():
            sources = sorted(path.parent for path in SOURCES.glob("*/pyproject.toml"))
            for wheel in build_wheels(sources, place):
                folder = wheel.name.partition("-")[0].removeprefix("crema_dummy_").removeprefix("crema_")
                # Installing a pure wheel is unpacking it; pip would do the same ten times slower.
                zipfile.ZipFile(wheel).extractall(place / folder)
            (place / "done").touch()
    return place


class Installer:
    """Puts dummy distributions on this process's path."""

    def __init__(self, dummies: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.dummies = dummies
        self.monkeypatch = monkeypatch

    def __call__(self, *names: str) -> None:
        for name in names:
            assert (self.dummies / name).is_dir(), name
            self.monkeypatch.syspath_prepend(str(self.dummies / name))
        registry.refresh()

    def environment(self, *names: str, **variables: str) -> dict[str, str]:
        """Return variables for a process of its own that sees these dummies."""
        paths = [str(self.dummies / name) for name in names]
        return {**os.environ, "PYTHONPATH": os.pathsep.join([*paths, str(SOURCES.parents[1])]), **variables}


@pytest.fixture
def install(dummies: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Installer]:
    """Install dummies for one test: `install("good", "broken_import")`."""
    modules = set(sys.modules)
    registry.refresh()
    yield Installer(dummies, monkeypatch)
    monkeypatch.undo()
    for name in set(sys.modules) - modules:
        if name.startswith("crema_dummy_"):
            del sys.modules[name]
    registry.refresh()
