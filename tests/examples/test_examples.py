"""Every example runs, on few clips and an untrained backbone, and prints what it promises."""

from __future__ import annotations

import runpy
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow  # trains in a process of its own

Run = Callable[..., str]
EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tiny_folder: Path) -> Run:
    """Runs an example as a script and returns what it printed."""

    def start(name: str, *words: str) -> str:
        monkeypatch.setattr(sys, "argv", [name, "--backbone", str(tiny_folder), *words])
        runpy.run_path(str(EXAMPLES / name), run_name="__main__")
        return capsys.readouterr().out

    return start


def test_every_example_is_tested() -> None:
    text = Path(__file__).read_text(encoding="utf-8")
    assert [path.name for path in EXAMPLES.glob("*.py") if f'"{path.name}"' not in text] == []


def test_build_in_a_script(run: Run) -> None:
    printed = run("build_in_a_script.py")
    assert "component " in printed
    assert "from video, depth: {'left': " in printed
    assert printed.endswith("saved and loaded: video, depth, audio\n")


def test_train_on_your_own_data(run: Run, tmp_path: Path) -> None:
    printed = run("train_on_your_own_data.py", "--clips", "2", "--epochs", "1", "--out", str(tmp_path / "mine"))
    assert printed.startswith(
        "18 samples, modalities: video, audio, depth, flow, normals, pointcloud, touch, thermal\n"
    )
    assert "without thermal: " in printed
    assert (tmp_path / "mine" / "model" / "complete").is_file()


def test_compare_fusions(run: Run) -> None:
    printed = run("compare_fusions.py", "--clips", "2", "--epochs", "1", "--fusions", "self_gated", "concat")
    header, *rows = printed.splitlines()
    assert header.split("  ")[0] == "fusion"
    assert [row.split()[0] for row in rows] == ["self_gated", "concat"]
