"""`crema split` on a saved model."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from crema_core.cli.main import main


@pytest.mark.slow
def test_split_writes_parts_that_can_be_evaluated(
    trained: Path, clips: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "parts"
    words = ["split", str(trained), str(clips), "--out", str(out), "--max-new-tokens", "2"]
    assert main(words) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "easy: answered right with video alone"
    assert lines[-2:] == [str(out / "easy.jsonl"), str(out / "hard.jsonl")]
    assert main([*words, "--resume", "--json"]) == 0
    numbers = json.loads(capsys.readouterr().out)["questions"]["all"]
    assert numbers["easy"] + numbers["hard"] == 54
    assert numbers["hard"] == len((out / "hard.jsonl").read_text().splitlines())
    assert (
        main(
            ["eval", str(trained), str(out / "hard.jsonl"), "--modalities", "video", "--max-new-tokens", "2", "--json"]
        )
        == 0
    )
    assert json.loads(capsys.readouterr().out)["accuracy"] == 0.0
