"""The CREMA paper's tables in small, on SenseWorld, with three seeds and their spread: `make tables`.

Every row is a model of its own, trained on the same clips with the same settings; `benchmarks.table_jobs` states which.
Seeds are those of the model's new weights and of training; the world is the same, so rows differ by nothing else.

Methods that need a learning rate of their own get the one with the highest accuracy on validation clips, which are
neither trained on nor in the tables: starting at the demo's, halved or doubled as long as that is better, with one
seed of its own. Rows of one method share it.

Finished trainings are kept in OUT, so an interrupted run continues, and more seeds may be asked for later. Those of
docs/analysis.md are in `benchmarks/results/tables`: with `cp -r benchmarks/results/tables runs/` they are not repeated,
but for what asks their models again (easy and hard questions). Early exit
(Table 7) is `benchmarks.early_exit`, zero-shot use (Table 18) `benchmarks.pretraining`.

Prints a table and one line of JSON per question; OUT/tables.html has all of them with pictures.
"""

from __future__ import annotations

import argparse
import json
import logging
import multiprocessing
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import torch

from benchmarks.table_jobs import BASE, DEMO, MODALITIES, NAMES, TRAINING, Job, Plan, methods, plans
from crema_analysis.cells import MODEL, CellStore, Measured, TableRow, TrainedTable, train_cell
from crema_analysis.difficulty import split_by_difficulty
from crema_analysis.sweep_report import write_trained_tables
from crema_core.api.build import build
from crema_core.api.load import load
from crema_core.api.model import CremaModel
from crema_core.common.progress import StatusLine
from crema_core.data.data_file import Record, read_data_file
from crema_core.evaluation.run import evaluate
from crema_core.evaluation.settings import EvaluationSettings
from crema_world.demo import OPTIONS, training_records
from crema_world.generate import make_world
from crema_world.questions import FACT_OF_TYPE, MODALITY_OF_TYPE

DIFFICULTY = "easy and hard"
TUNING_SEED = 100
LEAST_LR, HIGHEST_LR = DEMO.training["lr"] / 16, DEMO.training["lr"] * 16
TYPES = tuple(kind for kind, modality in MODALITY_OF_TYPE.items() if modality in NAMES)


@dataclass(frozen=True)
class Scale:
    """How much of everything.

    Attributes:
        backbone: "crema-tiny" or another folder.
        clips, test_clips: of the world.
        epochs: of every training.
        seed: of the world.
    """

    backbone: str = DEMO.backbone
    clips: int = 320
    test_clips: int = 100
    epochs: int = 6
    seed: int = 0

    def identity(self) -> dict[str, Any]:
        """Return what all cells depend on."""
        return {**vars(self), "modalities": list(MODALITIES), "mmqa": DEMO.mmqa, "training": TRAINING}


@dataclass(frozen=True)
class Cell:
    """One training.

    Attributes:
        job: what is special about it.
        seed: of new weights and of training.
        lr: highest learning rate.
        asked: clips it is asked about, "valid" to choose the learning rate, "test" for the tables.
    """

    job: Job
    seed: int
    lr: float
    asked: Literal["valid", "test"] = "test"

    @property
    def name(self) -> str:
        """Name of its files, whatever the seed."""
        return f"{self.job.name}.lr-{self.lr:g}" + (".valid" if self.asked == "valid" else "")


def make_cell(out: Path, scale: Scale, cell: Cell) -> Measured:
    """Train and ask one model."""
    job, seed = cell.job, cell.seed

    def new() -> CremaModel:
        mmqa = {**DEMO.mmqa, **job.mmqa}
        options = {**OPTIONS.get(scale.backbone, {}), **job.build}
        return build(MODALITIES[: job.count], backbone=scale.backbone, mmqa=mmqa, seed=seed, **options)

    store = CellStore(out, scale.identity())
    train, test = worlds(out, scale, asked=cell.asked)
    settings = {
        **TRAINING,
        "lr": cell.lr,
        "epochs": scale.epochs,
        "cache": str((out / "features").absolute()),
        **job.training,
    }
    return train_cell(
        new,
        train,
        test,
        folder=store.run_folder(cell.name, seed),
        settings={**settings, "seed": seed},
        evaluation=EvaluationSettings(batch_size=DEMO.eval_batch_size, max_new_tokens=DEMO.max_new_tokens),
        status=StatusLine(enabled=False),
    )


def worlds(out: Path, scale: Scale, *, asked: Literal["valid", "test"] = "test") -> tuple[list[Record], list[Record]]:
    """Return what is trained on and what is asked: questions that the modalities can answer, and captions of their
        facts.

    The world is made where it is missing; models that lack some of the modalities get the same lines.
    """
    places = {"train": scale.clips, asked: scale.test_clips}
    for split, count in places.items():
        if not (out / "world" / split).exists():
            make_world(out / "world" / split, num_clips=count, seed=scale.seed, split=split)  # type: ignore[arg-type]
    world = _Written(*(out / "world" / "train" / name for name in ("data.jsonl", "captions.jsonl")))
    # Two questions of each clip are taken from those that remain, so that every clip has its share.
    lines = training_records(world, replace(DEMO, seed=scale.seed, questions_per_clip=9), NAMES)  # type: ignore[arg-type]
    kept: dict[str, list[Record]] = {}
    for record in lines:
        if record.type == "describe":
            kept.setdefault("captions", []).append(replace(record, answer=known_facts(record.answer)))
        elif record.type in TYPES and len(kept.setdefault(record.id.partition("-")[0], [])) < DEMO.questions_per_clip:
            kept[record.id.partition("-")[0]].append(record)
    train = [record for own in kept.values() for record in own]
    test = [own for own in read_data_file(out / "world" / asked / "data.jsonl", modalities=NAMES) if own.type in TYPES]
    return train, test


@dataclass(frozen=True)
class _Written:
    """The two files of a world that training needs."""

    data_file: Path
    captions: Path


def known_facts(caption: str) -> str:
    """Return a caption without the facts that only absent modalities could know.

    >>> known_facts("left red ball . nearest left . behind white .")
    'left red ball . nearest left .'
    """
    absent = {word for kind, word in FACT_OF_TYPE.items() if MODALITY_OF_TYPE[kind] not in NAMES}
    facts = caption.removesuffix(" .").split(" . ")
    return " . ".join(fact for fact in facts if fact.split()[0] not in absent) + " ."


def train_all(out: Path, scale: Scale, cells: Iterable[Cell], *, processes: int) -> None:
    """Train the cells that are missing, in their order."""
    store = CellStore(out, scale.identity())
    unique = {(cell.name, cell.seed): cell for cell in cells}
    missing = [(out, scale, cell) for cell in unique.values() if store.read(cell.name, cell.seed) is None]
    for asked in {cell.asked for _, _, cell in missing}:
        worlds(out, scale, asked=asked)
    if processes == 1:
        for work in missing:
            _work(work)
        return
    with multiprocessing.get_context("spawn").Pool(processes) as pool:  # fork is unsafe once torch runs threads
        for _ in pool.imap_unordered(_work, missing):
            pass


def _work(work: tuple[Path, Scale, Cell]) -> None:
    out, scale, cell = work
    torch.set_num_threads(1)
    with without_notices():
        found = make_cell(out, scale, cell)
    CellStore(out, scale.identity()).keep(cell.name, cell.seed, found)
    print(f"  {cell.name}, seed {cell.seed}: {found.accuracy:.1%}", flush=True)


def tune(out: Path, scale: Scale, jobs: Sequence[Job], *, processes: int) -> dict[str, float]:
    """Return the learning rate of every job with the best accuracy on validation clips; of equal ones the lowest.

    All jobs take their next two candidates at once, so that the processes have work.
    """
    store = CellStore(out, scale.identity())
    best = {job.name: float(DEMO.training["lr"]) for job in jobs}
    tried: dict[str, dict[float, float]] = {job.name: {} for job in jobs}
    waiting = list(jobs)
    while waiting:
        cells = [
            Cell(job, TUNING_SEED, lr, "valid")
            for job in waiting
            for lr in (best[job.name] / 2, best[job.name], best[job.name] * 2)
            if LEAST_LR <= lr <= HIGHEST_LR
        ]
        train_all(out, scale, cells, processes=processes)
        for cell in cells:
            found = store.read(cell.name, cell.seed)
            assert found is not None, "trained above"
            tried[cell.job.name][cell.lr] = found.accuracy
        before = dict(best)
        best = {name: max(sorted(own), key=own.__getitem__) for name, own in tried.items()}
        waiting = [job for job in waiting if best[job.name] != before[job.name]]
    for name, own in tried.items():
        found_at = ", ".join(f"{lr:g}: {accuracy:.1%}" for lr, accuracy in sorted(own.items()))
        print(f"learning rate of {name}: {best[name]:g} ({found_at})", flush=True)
    return best


@contextmanager
def without_notices() -> Iterator[None]:
    """Keep back what would be said for every training: the world has more modalities than these tables."""
    logger = logging.getLogger("crema_core.data.data_file")
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(before)


@dataclass(frozen=True)
class Done:
    """Trainings that are all there.

    Attributes:
        out, scale: where they are, and how much of everything.
        lr: learning rates of the methods, by name of their job.
        seeds: of every row.
    """

    out: Path
    scale: Scale
    lr: Mapping[str, float]
    seeds: Sequence[int]

    def cell(self, job: Job, seed: int) -> Cell:
        """Return the cell of a job, with the learning rate of its method."""
        return Cell(job, seed, self.lr[job.method or job.name])

    def cells(self, jobs: Iterable[Job]) -> list[Cell]:
        """Return the cells of jobs, one seed of all before the next."""
        every = list(jobs)
        return [self.cell(job, seed) for seed in self.seeds for job in every]

    def row(self, label: str, job: Job) -> TableRow:
        """Return a row."""
        store = CellStore(self.out, self.scale.identity())
        cells = {seed: store.read(self.cell(job, seed).name, seed) for seed in self.seeds}
        return TableRow(label, {seed: cell for seed, cell in cells.items() if cell is not None})

    def table(self, plan: Plan) -> TrainedTable:
        """Return a table."""
        rates = {label: f"{self.lr[job.method or job.name]:g}" for label, job in plan.rows}
        chosen = "Learning rates: " + ", ".join(f"{label} {rate}" for label, rate in rates.items()) + "."
        same = len(set(rates.values())) == 1
        notes = (plan.note, f"Learning rate {next(iter(rates.values()))}." if same else chosen)
        return TrainedTable(plan.title, tuple(self.row(label, job) for label, job in plan.rows), notes)

    def difficulty(self) -> TrainedTable:
        """Ask the models of growing sets what is easy and hard for the one with the major modality alone (Table 9)."""
        store = CellStore(self.out, self.scale.identity())
        growing = plans()[0].rows
        test = worlds(self.out, self.scale)[1]
        found: dict[str, dict[int, Measured]] = {label: {} for label, _ in growing[1:]}
        options: dict[str, Any] = {"batch_size": DEMO.eval_batch_size, "max_new_tokens": DEMO.max_new_tokens,
                                   "cache": self.out / "features"}  # fmt: skip
        for seed in self.seeds:
            reference = load(store.run_folder(self.cell(growing[0][1], seed).name, seed) / MODEL)
            parts = split_by_difficulty(reference, test, **options)
            asked = {name: part for name, part in (("easy", parts.easy), ("hard", parts.hard)) if part}
            for label, job in growing[1:]:
                own = self.cell(job, seed)
                model, cell = load(store.run_folder(own.name, seed) / MODEL), store.read(own.name, seed)
                assert cell is not None, "the models of growing sets are trained first"
                by = {name: evaluate(model, part, **options, announce=False).accuracy for name, part in asked.items()}
                found[label][seed] = replace(cell, by_type=by)
        note = (
            f"Table 9: easy is what the model with {NAMES[0]} alone (same seed) answers right; that model itself would "
            "have 100 and 0."
        )
        return TrainedTable(DIFFICULTY, tuple(TableRow(label, cells) for label, cells in found.items()), (note,))


def main(arguments: Sequence[str] | None = None) -> int:
    """Train, ask and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--out", type=Path, default=Path("runs/tables"))
    parser.add_argument("--seeds", type=int, default=3, help="trainings of every row")
    parser.add_argument("--clips", type=int, default=Scale.clips, help="training clips")
    parser.add_argument("--test-clips", type=int, default=Scale.test_clips)
    parser.add_argument("--epochs", type=int, default=Scale.epochs)
    parser.add_argument("--backbone", default=Scale.backbone)
    parser.add_argument("--processes", type=int, default=2, help="trainings at once, each with one thread")
    parser.add_argument(
        "--tune", action=argparse.BooleanOptionalAction, default=True, help="a learning rate per method"
    )
    parser.add_argument("--only", nargs="*", default=None, help="names of tables")
    options = parser.parse_args(arguments)
    scale = Scale(options.backbone, options.clips, options.test_clips, options.epochs)
    seeds = range(options.seeds)
    titles = [own.title for own in plans()] + [DIFFICULTY]
    wanted = titles if options.only is None else options.only
    if unknown := [title for title in wanted if title not in titles]:
        parser.error(f"no such table: {', '.join(unknown)}. Tables: {', '.join(titles)}")
    asked = [own for own in plans() if own.title in wanted or (own.title == "modalities" and DIFFICULTY in wanted)]
    rows = [BASE, *(job for own in asked for _, job in own.rows)]
    compared = [job for job in methods() if job.name in {own.method or own.name for own in rows}]
    with without_notices():
        if options.tune:
            lr = tune(options.out, scale, compared, processes=options.processes)
        else:
            lr = {job.name: float(TRAINING["lr"]) for job in compared}
        done = Done(options.out, scale, lr, seeds)
        train_all(options.out, scale, done.cells(rows), processes=options.processes)
        found = [done.table(own) for own in asked if own.title in wanted]
        if DIFFICULTY in wanted:
            found.append(done.difficulty())
    for table in found:
        print(f"\n{table}\n{json.dumps(table.to_dict())}", flush=True)
    lead = (
        f"{', '.join(NAMES)}; {scale.clips:,} clips to train on, {scale.test_clips:,} others to ask about, "
        f"{scale.epochs} epochs, {len(seeds)} seeds: mean ± standard deviation over seeds. Question types: "
        f"{', '.join(TYPES)}."
    )
    place = write_trained_tables(options.out, found, name="tables", title="The paper's tables in small", lead=lead)
    print(f"\nreport: {place}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
