"""The in-house tables at a very small scale: every row can be trained, finished ones stay."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

from benchmarks import early_exit, tables
from benchmarks.table_jobs import BASE, DEMO, MODALITIES, NAMES, Job, methods, plans
from benchmarks.tables import Cell, Scale, known_facts, main, tune, worlds
from crema_analysis.axes import AXES
from crema_core.api.requests import resolve_requests
from crema_core.train.settings import train_settings
from crema_world.questions import MODALITY_OF_TYPE


def small(tiny: Path, out: Path, *more: str) -> list[str]:
    sizes = ["--clips", "4", "--test-clips", "2", "--epochs", "1", "--seeds", "1", "--no-tune", "--processes", "1"]
    return ["--out", str(out), "--backbone", str(tiny), *sizes, *more]


def jobs() -> dict[str, Job]:
    return {job.name: job for plan in plans() for _, job in plan.rows}


def test_equal_trainings_are_one_job_and_names_tell_all_others_apart() -> None:
    rows = [job for plan in plans() for _, job in plan.rows]
    assert all(jobs()[job.name] == job for job in rows)
    assert len(jobs()) == 22
    assert sum(job is BASE for job in rows) == 9
    for plan in plans():
        assert len({label for label, _ in plan.rows}) == len(plan.rows)


def test_every_table_of_the_paper_that_a_sweep_knows_is_there() -> None:
    notes = " ".join([*(plan.note for plan in plans()), str(early_exit.__doc__)])
    assert all(axis.source in notes for axis in AXES.values() if axis.source is not None)


@pytest.mark.parametrize("job", jobs().values(), ids=lambda job: job.name)
def test_every_jobs_settings_can_be(job: Job) -> None:
    assert [own.spec.name for own in resolve_requests(MODALITIES[: job.count], job.mmqa)] == list(NAMES[: job.count])
    train_settings(None, dict(job.training))


def test_every_row_takes_the_learning_rate_of_a_method() -> None:
    own = {job.name for job in methods()}
    assert all((job.method or job.name) in own for job in jobs().values())
    assert {"base", "joint", "fusion-concat", f"individual-{len(NAMES)}"} <= own


@pytest.mark.parametrize(
    ("best_at", "found"),
    [
        ([8e-3], 8e-3),  # doubled twice
        ([5e-4], 5e-4),
        ([1e-3, 2e-3], 1e-3),  # of equal ones the lowest
        ([1.0], 0.032),  # sixteen times the demo's, not beyond
    ],
)
def test_a_learning_rate_is_halved_or_doubled_as_long_as_that_is_better_on_validation_clips(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, best_at: list[float], found: float
) -> None:
    asked: list[Cell] = []

    def pretend(out: Path, scale: Scale, cells: list[Cell], *, processes: int) -> None:
        store = tables.CellStore(out, scale.identity())
        for cell in cells:
            asked.append(cell)
            near = min(abs(math.log2(cell.lr / lr)) for lr in best_at)
            store.keep(cell.name, cell.seed, tables.Measured(1 / (1 + near), {}, 1, 1.0, 1, None))

    monkeypatch.setattr(tables, "train_all", pretend)
    assert tune(tmp_path, Scale(), [BASE, Job("other", method=None)], processes=1) == {"base": found, "other": found}
    assert {cell.asked for cell in asked} == {"valid"}
    assert not {cell.seed for cell in asked} & {0, 1, 2}
    assert all(cell.lr <= 16 * DEMO.training["lr"] for cell in asked)


def test_captions_keep_what_the_modalities_can_know() -> None:
    caption = "left red ball . middle blue star . nearest left . moving up . first beep . feels wood . behind white ."
    assert known_facts(caption) == "left red ball . middle blue star . nearest left . moving up . first beep ."


def test_questions_are_those_the_modalities_can_answer(tmp_path: Path) -> None:
    train, test = worlds(tmp_path, Scale(clips=3, test_clips=2))
    assert {MODALITY_OF_TYPE[record.type] for record in test} == set(NAMES)
    assert len(test) == 2 * 5
    captions = [record for record in train if record.type == "describe"]
    assert (len(train), len(captions)) == (3 + 3 * 2, 3)
    assert worlds(tmp_path, Scale(clips=3, test_clips=2)) == (train, test)


@pytest.mark.slow
def test_two_tables_and_what_they_leave(tiny_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = small(tiny_folder, tmp_path / "out", "--only", "training")
    assert main(words) == 0
    printed = capsys.readouterr().out
    assert "joint.lr-0.002, seed 0: " in printed
    found = json.loads(next(line for line in printed.splitlines() if line.startswith("{")))
    assert [row["label"] for row in found["rows"]] == ["sequential", "joint"]
    assert (tmp_path / "out" / "tables.html").is_file()
    assert main(words) == 0
    again = capsys.readouterr().out
    assert "seed 0: " not in again  # nothing was trained a second time
    assert again.splitlines()[-4:] == printed.splitlines()[-4:]


def test_an_unknown_table_is_wrong_usage(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--only", "fusions", "--out", str(tmp_path / "out")])
    assert "no such table: fusions. Tables: modalities, individual, fusion" in capsys.readouterr().err


@pytest.mark.slow
def test_every_row_of_every_table_can_be_trained_in_two_processes(tiny_folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert main([*small(tiny_folder, out)[:-1], "2"]) == 0
    tables = json.loads((out / "tables.json").read_text())
    assert [own["title"] for own in tables] == [*(plan.title for plan in plans()), "easy and hard"]
    for own, plan in zip(tables, plans(), strict=False):
        assert [row["label"] for row in own["rows"]] == [label for label, _ in plan.rows]
        assert all(list(row["seeds"]) == ["0"] for row in own["rows"])
    parts = [row["mean"] for row in tables[-1]["rows"]]
    assert len(parts) == len(NAMES) - 1
    assert all({"all", "hard"} <= set(own) for own in parts)  # a random backbone answers nothing right: no easy part
