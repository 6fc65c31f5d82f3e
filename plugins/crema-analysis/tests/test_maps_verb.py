"""`crema maps` on a saved model."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from crema_core.cli.main import main

pytestmark = pytest.mark.slow


def test_maps_draws_lines_of_a_data_file(
    trained: Path, clips: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "maps"
    assert main(["maps", str(trained), f"{clips}:1", f"{clips}:30", "--out", str(out)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("data.jsonl:1  what color is the ")
    assert lines[2] == f"report: {out / 'maps.html'}"
    assert {path.name for path in (out / "data-1").iterdir()} == {"video.png", "depth.png", "gate.png"}
    numbers = json.loads((out / "maps.json").read_text())
    assert [own["line"] for own in numbers] == ["data.jsonl:1", "data.jsonl:30"]
    assert numbers[0]["modalities"]["video"]["grid"] == [8, 8]
    assert len(numbers[0]["gate"]) == 2
    assert (out / "maps.html").read_text().count("data:image/png;base64,") == 6


def test_a_line_that_is_not_there_is_named(
    trained: Path, clips: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["maps", str(trained), "--out", str(tmp_path / "maps")]
    assert main([*words, f"{clips}:55"]) == 1
    assert capsys.readouterr().err.endswith(
        "crema: 'data.jsonl' has no question in line 55. It has 54, in lines 1 to 54. Name one of these.\n"
    )
    assert main([*words, f"{clips}:0"]) == 1
    assert capsys.readouterr().err == (
        f"crema: '{clips}:0' names no line. Accepted: a data file, a colon and the number of a line, from 1. Write "
        "test.jsonl:1, for example.\n"
    )
    assert not (tmp_path / "maps").exists()
