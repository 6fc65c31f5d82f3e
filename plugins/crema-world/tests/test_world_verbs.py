"""`crema world make` and `crema demo`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from crema_core.cli.main import main


def test_world_make_writes_a_data_file_and_says_what_is_in_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["world", "make", str(tmp_path / "w"), "--clips", "2", "--split", "test"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == f"2 clips, 18 questions: {tmp_path / 'w' / 'data.jsonl'}"
    assert lines[2].split() == ["type", "questions", "majority"]
    assert len((tmp_path / "w" / "data.jsonl").read_text().splitlines()) == 18


def test_world_make_as_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["world", "make", str(tmp_path / "w"), "--clips", "1", "--seed", "3", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["num_questions"] == 9


def test_world_make_refuses_an_unknown_split(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["world", "make", str(tmp_path / "w"), "--clips", "1", "--split", "trian"]) == 1
    assert "'trian' is not a split of a world." in capsys.readouterr().err


def test_world_without_its_action_is_wrong_usage(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["world"]) == 2
    assert "{make}" in capsys.readouterr().err


def test_demo_refuses_a_folder_of_something_else(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "mine.txt").touch()
    assert main(["demo", "--out", str(tmp_path)]) == 1
    assert capsys.readouterr().err.endswith(
        f"crema: '{tmp_path}' exists and is not the folder of an earlier demo. Accepted: a new or empty folder, or one "
        "a demo wrote, which is then replaced. Name another one with --out. Nothing was changed.\n"
    )
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]
