"""Finished cells are kept, and a table says mean and spread."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from crema_analysis.cells import CellStore, Measured, TableRow, TrainedTable
from crema_core.errors import CheckpointError


def measured(accuracy: float, **more: object) -> Measured:
    return Measured(accuracy, {"color": accuracy / 2}, 1200, 30.0, 7, 2.0, **more)  # type: ignore[arg-type]


def test_mean_and_spread_are_over_seeds() -> None:
    row = TableRow("a", {0: measured(0.5), 1: measured(0.7), 2: measured(0.6)})
    assert row.mean() == pytest.approx(0.6)
    assert row.spread() == pytest.approx(0.1)
    assert row.mean("color") == pytest.approx(0.3)
    assert math.isnan(TableRow("a", {0: measured(0.5)}).spread())


def test_a_table_as_text_and_as_data() -> None:
    found = TrainedTable(
        "fusion", (TableRow("a", {0: measured(0.5), 1: measured(0.7)}), TableRow("b", {0: measured(1)}))
    )
    assert [" ".join(line.split()) for line in str(found).splitlines()] == [
        "fusion color all trainable tokens updates seconds seeds",
        "a 30.0 ± 7.1 60.0 ± 14.1 1,200 30 7 2 2",
        "b 50.0 100.0 1,200 30 7 2 1",
    ]
    data = found.to_dict()["rows"]
    assert data[0]["mean"] == {"color": pytest.approx(0.3), "all": pytest.approx(0.6)}
    assert data[1]["spread"] == {"color": None, "all": None}
    assert data[0]["seeds"]["1"]["num_steps"] == 7


def test_what_is_finished_is_not_made_again_and_seeds_come_one_after_another(tmp_path: Path) -> None:
    made: list[tuple[str, int]] = []

    def make(label: str, seed: int, folder: Path) -> Measured:
        if len(made) == 3:
            raise KeyboardInterrupt
        made.append((label, seed))
        return measured(seed / 10, exited={"wave": 2})

    with pytest.raises(KeyboardInterrupt):
        CellStore(tmp_path, {"x": 1}).fill(["a", "b"], [0, 1], make)
    assert made == [("a", 0), ("b", 0), ("a", 1)]
    made.clear()
    rows = CellStore(tmp_path, {"x": 1}).fill(["a", "b", "c"], [0, 1], make)
    assert made == [("c", 0), ("b", 1), ("c", 1)]
    assert [own.values("all") for own in rows] == [[0.0, 0.1]] * 3
    assert rows[0].cells[0] == measured(0.0, exited={"wave": 2})


def test_labels_of_any_kind_have_files_of_their_own(tmp_path: Path) -> None:
    store = CellStore(tmp_path, {})
    labels = ["a", "a b", "a/b", "a + b", "../x", "0.5"]
    assert len({store.name(label, 0) for label in labels}) == len(labels)
    assert all("/" not in store.name(label, 0) for label in labels)


def test_another_table_is_refused(tmp_path: Path) -> None:
    CellStore(tmp_path / "out", {"over": "fusion", "epochs": 2})
    with pytest.raises(CheckpointError) as error:
        CellStore(tmp_path / "out", {"over": "major", "epochs": 2})
    assert str(error.value) == (
        f'\'{tmp_path / "out"}\' holds cells of another table (over: "fusion" -> "major"). Only the same one can be '
        "gone on with; rows and seeds may be added. Name another folder with --out. "
        "Nothing was changed."
    )


def test_a_foreign_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "letter.txt").write_text("dear")
    with pytest.raises(CheckpointError) as error:
        CellStore(tmp_path, {})
    assert str(error.value) == (
        f"'{tmp_path}' exists and is not the folder of a table. Accepted: a new or empty folder, or that of a table to "
        "continue. Name another one with --out. Nothing was changed."
    )
    assert [path.name for path in tmp_path.iterdir()] == ["letter.txt"]


def test_damaged_files_are_named(tmp_path: Path) -> None:
    store = CellStore(tmp_path, {})
    (tmp_path / "cells").mkdir()
    (tmp_path / "cells" / "a.seed-0.json").write_text("{")
    with pytest.raises(CheckpointError) as error:
        store.read("a", 0)
    assert str(error.value) == (
        f"'{tmp_path / 'cells' / 'a.seed-0.json'}' is no finished cell: it is not JSON (Expecting "
        "property name enclosed in double quotes at column 2). It is written whole, as JSON. Remove the file, and the "
        "cell is made again. Nothing was changed."
    )
    (tmp_path / "table.json").write_text("{")
    with pytest.raises(CheckpointError) as error:
        CellStore(tmp_path, {})
    assert str(error.value) == (
        f"'{tmp_path}' cannot be continued: its table.json, which states what the cells depend on, is not JSON "
        "(Expecting property name enclosed in double quotes at column 2). Name another folder with --out. "
        "Nothing was changed."
    )
