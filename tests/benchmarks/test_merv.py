"""The MERV benchmark: its tables' rows, and a run so small that it learns nothing."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.support.packages import needs

pytestmark = [pytest.mark.slow, needs("crema-merv"), needs("crema-world")]


def test_rows_that_are_one_training_share_a_cell() -> None:
    from benchmarks.merv import MIXERS, PROJECTORS, rows_of

    names = ["stills", "motion", "texture"]
    tables = {table: rows_of(table, names) for table in ("encoders", "projectors", "mixers")}
    assert tables["projectors"]["average"] == tables["mixers"]["cross_attention"] == tables["encoders"]["all"]
    cells = {row.cell for rows in tables.values() for row in rows.values()}
    assert len(cells) == 7 + 1 + len(PROJECTORS) + len(MIXERS) - 2


@pytest.mark.parametrize("table", ["projectors", "mixers"])
def test_every_row_of_a_table_can_be_trained(tmp_path: Path, table: str, capsys: pytest.CaptureFixture[str]) -> None:
    from benchmarks.merv import main, rows_of

    sizes = ["--encoder-steps", "1", "--train-clips", "4", "--test-clips", "2", "--epochs", "1", "--seeds", "0"]
    assert main(["--out", str(tmp_path), *sizes, "--table", table]) == 0
    found = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert list(found) == list(rows_of(table, ["stills", "motion", "texture"]))


def test_a_run_is_kept_and_continued(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from benchmarks.merv import main

    sizes = ["--encoder-steps", "1", "--train-clips", "4", "--test-clips", "2", "--epochs", "1"]
    asked = ["--out", str(tmp_path), *sizes, "--table", "mixers", "--only", "scalar", "average", "--seeds"]
    assert main([*asked, "0"]) == 0
    first = json.loads(capsys.readouterr().out.splitlines()[-1])
    kept = {file: file.stat().st_mtime_ns for file in (tmp_path / "cells").iterdir()}
    assert main([*asked, "0", "1"]) == 0
    second = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert list(second) == ["scalar", "average"]
    assert [len(own) for own in second.values()] == [2, 2]
    assert {label: own[0] for label, own in second.items()} == {label: own[0] for label, own in first.items()}
    assert all(file.stat().st_mtime_ns == before for file, before in kept.items())
