"""What the comparison with a script written by hand counts and prints."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks.by_hand import CREMA, lines_of_code, main


def test_lines_without_code_are_not_counted() -> None:
    whole = [
        '"""A docstring."""',
        "",
        "x = 1  # a comment",
        "# another",
        "def f():",
        '    """Its docstring,',
        '    long."""',
    ]
    text = "\n".join([*whole, "    return [", "        x", "    ]", ""])
    assert lines_of_code(text) == 5
    assert lines_of_code(CREMA) == 7


@pytest.mark.slow
def test_every_row_is_trained(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sizes = ["--clips", "4", "--test-clips", "2", "--epochs", "1", "--seeds", "0"]
    assert main(["--place", str(tmp_path / "world"), *sizes]) == 0
    rows = json.loads(capsys.readouterr().out.splitlines()[-1])["rows"]
    assert [row["epochs"] for row in rows] == [1, 1, 1, 1]
    assert rows[0]["lines of code"] > 10 * rows[1]["lines of code"]
