"""A short version of the campaign of limits: every limit on verbs that write in different ways."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.slow
def test_what_cannot_be_written_is_a_message_and_leaves_nothing(tmp_path: Path) -> None:
    verbs = ["fit", "eval", "show", "split", "save_adapter"]
    command = [sys.executable, "-m", "benchmarks.campaigns.limits", "--verbs", *verbs, "--folder", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=900)
    counts = json.loads(done.stdout.splitlines()[-1])["limits"]
    assert (done.returncode, counts["wrong"]) == (0, 0), done.stdout
    assert counts["right"] >= 4 * len(verbs)  # disks cannot be mounted everywhere, nor users changed
