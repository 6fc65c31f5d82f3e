"""Every block of the tutorial runs, in order, in one empty folder."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
BLOCKS = re.findall(
    r"^```(\w+)\n(.*?)^```$", (ROOT / "docs" / "first_sense.md").read_text(encoding="utf-8"), flags=re.M | re.S
)


def blocks(language: str) -> str:
    return "\n".join(text for found, text in BLOCKS if found == language)


def run(*command: str, folder: Path) -> list[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout.splitlines()


@pytest.mark.slow
def test_the_python_blocks_run_and_print_what_the_page_says(tmp_path: Path) -> None:
    lines = run(sys.executable, "-W", "ignore", "-c", blocks("python"), folder=tmp_path)
    assert lines[0] in ("red ('radar',)", "blue ('radar',)")
    assert lines[-1] == "radar: unknown option 'num_sweep'. Accepted: num_sweeps. Did you mean 'num_sweeps'?"


def test_the_shell_block_writes_a_package_without_findings(tmp_path: Path) -> None:
    crema = f'crema() {{ "{sys.executable}" -m crema_core.cli.main "$@"; }}\nset -euo pipefail\n'
    assert run("bash", "-c", crema + blocks("bash"), folder=tmp_path)[-1] == "16 checks: 16 passed – tier bronze"
    assert (tmp_path / "packages" / "crema-radar" / "src" / "crema_radar" / "plugin.py").is_file()
