"""A plugin of somebody else: built as a wheel, installed beside the wheel of core, found and trained by a short script.

The environment is a fresh one; only the heavy libraries are shared with this interpreter, by links.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

from tests.support.dummies import SOURCES, build_wheels

ROOT = Path(__file__).parents[2]
OURS = ("crema", "__editable__", "_virtualenv", "distutils-precedence")

SCRIPT = """\
import crema_core
from crema_imu.clips import write_clips

train, valid = write_clips("train", count=64, seed=0), write_clips("valid", count=32, seed=1)
model = crema_core.build(modalities=["imu"], backbone="crema-tiny")
before = crema_core.evaluate(model, valid).accuracy
crema_core.fit(model, train, valid, preset="tiny", epochs=16, batch_size=8, out="run")
after = crema_core.evaluate(model, valid).accuracy
print(f"{crema_core.__file__} {before:.3f} {after:.3f}")
"""


def source_of_core(place: Path) -> Path:
    """Copy what a wheel of core is built from."""
    place.mkdir(parents=True)
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        if (ROOT / name).exists():
            shutil.copy(ROOT / name, place / name)
    shutil.copytree(ROOT / "crema_core", place / "crema_core", ignore=shutil.ignore_patterns("__pycache__"))
    return place


def fresh_environment(place: Path) -> Path:
    """Make an environment that holds none of our packages and links to every other installed one."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(place)], check=True)
    (site,) = place.glob("lib/python*/site-packages")
    for installed in {sysconfig.get_path("purelib"), sysconfig.get_path("platlib")}:
        for entry in Path(installed).iterdir():
            if not entry.name.startswith(OURS) and entry.suffix != ".pth" and not (site / entry.name).exists():
                (site / entry.name).symlink_to(entry)
    return place / "bin" / "python"


@pytest.fixture(scope="module")
def user(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A folder away from the checkout, and the interpreter of an environment with the two wheels."""
    place = tmp_path_factory.mktemp("user")
    core = source_of_core(place / "core")
    wheels = build_wheels([core, SOURCES / "imu"], place / "build")
    python = fresh_environment(place / "environment")
    command = [sys.executable, "-m", "pip", "--python", str(python), "install", "--quiet", "--no-deps", "--no-index"]
    done = subprocess.run(
        [*command, "--disable-pip-version-check", *map(str, wheels)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return place, python


def run(user: tuple[Path, Path], *words: str) -> str:
    place, python = user
    home = place / "home"
    home.mkdir(exist_ok=True)
    environment = {"PATH": os.environ["PATH"], "HOME": str(home), "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    done = subprocess.run([str(python), *words], cwd=home, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_command_lists_the_installed_wheels_and_nothing_else(user: tuple[Path, Path]) -> None:
    rows = run(user, str(user[1].with_name("crema")), "plugins", "list").splitlines()
    assert [row.split()[:4] for row in rows] == [
        ["name", "package", "version", "status"],
        ["imu", "crema-imu", "0.3.0", "ok"],
        ["video", "crema-core", "0.1.0", "ok"],
    ]


def test_the_wheel_holds_every_file_core_reads(user: tuple[Path, Path]) -> None:
    (installed,) = user[0].glob("environment/lib/python*/site-packages/crema_core")
    there = {str(path.relative_to(installed)) for path in installed.rglob("*") if "__pycache__" not in path.parts}
    source = user[0] / "core" / "crema_core"
    assert {str(path.relative_to(source)) for path in source.rglob("*") if "__pycache__" not in path.parts} <= there


def test_a_ten_line_script_trains_it(user: tuple[Path, Path]) -> None:
    place, before, after = run(user, "-c", SCRIPT).split()[-3:]
    assert str(user[0]) in place
    assert float(after) >= 0.9
    assert float(before) <= 0.8
