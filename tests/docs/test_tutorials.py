"""Every block of the tutorials runs, in order, in one empty folder."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from crema_core.data.data_file import FIELDS
from crema_core.plugins.registry import known_names
from tests.support.packages import needs

ROOT = Path(__file__).parents[2]
CREMA = f'crema() {{ "{sys.executable}" -m crema_core.cli.main "$@"; }}\nset -euo pipefail\n'


def blocks(page: str, language: str) -> str:
    text = (ROOT / "docs" / page).read_text(encoding="utf-8")
    return "\n".join(re.findall(rf"^```{language}(?: [^\n]*)?\n(.*?)^```$", text, flags=re.M | re.S))


def run(*command: str, folder: Path) -> list[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout.splitlines()


@pytest.mark.slow
def test_first_modality_runs_and_prints_what_the_page_says(tmp_path: Path) -> None:
    lines = run(sys.executable, "-W", "ignore", "-c", blocks("first_modality.md", "python"), folder=tmp_path)
    assert lines[0] in ("red ('radar',)", "blue ('radar',)")
    assert lines[-1] == "radar: unknown option 'num_sweep'. Accepted: num_sweeps. Did you mean 'num_sweeps'?"


@pytest.mark.slow
def test_first_modality_writes_a_package_without_findings(tmp_path: Path) -> None:
    lines = run("bash", "-c", CREMA + blocks("first_modality.md", "bash"), folder=tmp_path)
    assert lines[-1] == "17 checks: 17 passed – tier bronze"
    assert (tmp_path / "packages" / "crema-radar" / "src" / "crema_radar" / "plugin.py").is_file()


@pytest.mark.slow
@needs("crema-world", "crema-audio", "crema-thermal", "crema-analysis")
def test_own_data_runs_from_a_folder_of_clips_to_a_shared_modality(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text(blocks("own_data.md", "yaml"), encoding="utf-8")
    run("bash", "-c", CREMA + blocks("own_data.md", "bash"), folder=tmp_path)
    in_runs = ("mine/report.html", "mine/test.jsonl", "mine/ablation", "second/model")
    for made in ("sound.png", *(f"runs/{place}" for place in in_runs)):
        assert (tmp_path / made).exists(), made
    lines = run(sys.executable, "-W", "ignore", "-c", blocks("own_data.md", "python"), folder=tmp_path)
    assert lines[-1] == "('video', 'audio', 'thermal')"
    assert (tmp_path / "thermal-adapter").is_dir()


def test_own_data_names_every_key_of_a_line_and_no_other() -> None:
    lines = blocks("own_data.md", "json")
    named = set(re.findall(r'"(\w+)": ', lines)) | set(
        re.findall(r"^\| `([a-z]\w*)` \|", (ROOT / "docs" / "own_data.md").read_text(encoding="utf-8"), flags=re.M)
    )
    assert named - set(known_names("modality")) == set(FIELDS)


def test_the_blocks_about_hooks_are_parts_of_the_packages() -> None:
    files = [file.read_text(encoding="utf-8") for file in (ROOT / "examples").glob("crema-*/src/*/hooks.py")]
    text = (ROOT / "docs" / "writing_hooks.md").read_text(encoding="utf-8")
    found = re.findall(r"^```python\n(.*?)^```$", text, flags=re.M | re.S)
    assert len(found) == 3
    for block in found:
        parts = re.split(r"\n\n\n(?=[@\w])", block)[1:]  # imports stand first; a page imports only what its part needs
        assert any(all(part.strip() in file for part in parts) for file in files), block
