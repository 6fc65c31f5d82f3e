"""A table of trainings: one model per row and seed, mean and spread over seeds.

Each finished cell is kept in a file as soon as it is done, so that an interruption costs one.

```
OUT/
  table.json             what the cells depend on besides their row and seed
  cells/ROW.seed-N.json  one finished training and its evaluation
  runs/ROW.seed-N/       its run directory and model
```
"""

from __future__ import annotations

import json
import re
import shutil
import statistics
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from pydantic import ConfigDict, TypeAdapter, ValidationError

from crema_core.api.model import CremaModel
from crema_core.common.atomic import write_text
from crema_core.common.progress import StatusLine
from crema_core.common.reading import read_object, shown
from crema_core.common.tables import table
from crema_core.data.data_file import Record
from crema_core.errors import CheckpointError, ReadError
from crema_core.evaluation.predictions import digest
from crema_core.evaluation.run import evaluate
from crema_core.evaluation.settings import EvaluationSettings
from crema_core.train.fit import fit
from crema_core.train.metrics import METRICS, read_metrics
from crema_core.train.run import BEST, CHECKPOINTS, CONFIG, LAST
from crema_core.train.settings import NOT_A_FOLDER, train_settings


@dataclass(frozen=True)
class Measured:
    """One model, trained and evaluated.

    Attributes:
        accuracy: on all test questions, 0..1.
        by_type: the same by question type.
        trainable: trained parameters.
        tokens_per_answer: mean number of tokens given to the language model.
        num_steps: updates.
        duration_s: wall-clock seconds of training; None where it was interrupted and went on.
        exited: last epoch of the modalities that exited early, from 0.
    """

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid", allow_inf_nan=False)

    accuracy: float
    by_type: dict[str, float]
    trainable: int
    tokens_per_answer: float
    num_steps: int
    duration_s: float | None
    exited: dict[str, int] = field(default_factory=dict)


_CELL = TypeAdapter(Measured)


@dataclass(frozen=True)
class TableRow:
    """One row: the same training with several seeds.

    Attributes:
        label: what is special about it.
        cells: by seed.
    """

    label: str
    cells: dict[int, Measured]

    def values(self, column: str) -> list[float]:
        """Return the accuracies of all seeds: of a question type, or "all"."""
        return [own.accuracy if column == "all" else own.by_type[column] for own in self.cells.values()]

    def mean(self, column: str = "all") -> float:
        """Return the mean accuracy over seeds, 0..1."""
        return statistics.mean(self.values(column))

    def spread(self, column: str = "all") -> float:
        """Return the sample standard deviation over seeds, 0..1; NaN for one seed, which has none."""
        values = self.values(column)
        return statistics.stdev(values) if len(values) > 1 else float("nan")


@dataclass(frozen=True)
class TrainedTable:
    """A finished table.

    Attributes:
        title: heading.
        rows: in order.
        notes: sentences about how to read it.
    """

    title: str
    rows: tuple[TableRow, ...]
    notes: tuple[str, ...] = ()

    @property
    def columns(self) -> tuple[str, ...]:
        """Question types, then "all"."""
        kinds = {kind for row in self.rows for own in row.cells.values() for kind in own.by_type}
        return (*sorted(kinds), "all")

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON data; the spread of a single seed is null."""
        rows = [
            {
                "label": row.label,
                "mean": {column: row.mean(column) for column in self.columns},
                "spread": {column: _number(row.spread(column)) for column in self.columns},
                "seeds": {str(seed): asdict(own) for seed, own in row.cells.items()},
            }
            for row in self.rows
        ]
        return {"title": self.title, "rows": rows, "notes": list(self.notes)}

    def texts(self) -> list[list[str]]:
        """Return the cells of the table as texts, header first: accuracies in per cent with their spread."""
        header = [self.title, *self.columns, "trainable", "tokens", "updates", "seconds", "seeds"]
        return [header, *(self._texts(row) for row in self.rows)]

    def __str__(self) -> str:
        return "\n\n".join([table(self.texts()), *self.notes])

    def _texts(self, row: TableRow) -> list[str]:
        cells = list(row.cells.values())
        accuracies = [_percent(row.mean(column), row.spread(column)) for column in self.columns]
        seconds = [own.duration_s for own in cells if own.duration_s is not None]
        costs = [
            f"{statistics.mean(own.trainable for own in cells):,.0f}",
            f"{statistics.mean(own.tokens_per_answer for own in cells):.0f}",
            f"{statistics.mean(own.num_steps for own in cells):,.0f}",
            f"{statistics.mean(seconds):.0f}" if seconds else "",
        ]
        return [row.label, *accuracies, *costs, str(len(cells))]


def _percent(mean: float, spread: float) -> str:
    return f"{100 * mean:.1f}" if spread != spread else f"{100 * mean:.1f} ± {100 * spread:.1f}"


def _number(value: float) -> float | None:
    return None if value != value else value


IDENTITY = "table.json"


class CellStore:
    """Finished cells in a folder.

    Args:
        folder: new, or that of an interrupted table.
        identity: what every cell depends on, plain JSON data. Rows and seeds are not part of it, so both may grow.

    Raises:
        CheckpointError: when the folder holds the cells of something else; nothing is changed then.
    """

    def __init__(self, folder: Path, identity: Mapping[str, Any]) -> None:
        self.folder = folder
        wanted = json.loads(json.dumps(identity))
        if (folder / IDENTITY).is_file():
            self._require_same(wanted)
        elif folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise CheckpointError(
                f"'{folder}' exists and is not the folder of a table. Accepted: a new or empty folder, or that of a "
                "table to continue. Name another one with --out. Nothing was changed."
            )
        else:
            write_text(folder / IDENTITY, json.dumps(wanted, indent=2) + "\n")

    def fill(
        self, labels: Iterable[str], seeds: Sequence[int], make: Callable[[str, int, Path], Measured]
    ) -> tuple[TableRow, ...]:
        """Return the rows, making what is not there yet; one seed for all rows comes before the next seed.

        Args:
            labels: of the rows, all different.
            seeds: of every row.
            make: from label, seed and a folder of its own to a measured cell.
        """
        names = list(labels)
        found: dict[str, dict[int, Measured]] = {label: {} for label in names}
        for seed in seeds:
            for label in names:
                done = self.read(label, seed)
                if done is None:
                    done = make(label, seed, self.run_folder(label, seed))
                    self.keep(label, seed, done)
                found[label][seed] = done
        return tuple(TableRow(label, cells) for label, cells in found.items())

    def keep(self, label: str, seed: int, done: Measured) -> None:
        """Write a finished cell."""
        write_text(self._place(label, seed), json.dumps(asdict(done), indent=2) + "\n")

    def read(self, label: str, seed: int) -> Measured | None:
        """Return a finished cell, or None.

        Raises:
            CheckpointError: when its file is not what was written.
        """
        place = self._place(label, seed)
        if not place.is_file():
            return None
        try:
            return _CELL.validate_json(json.dumps(read_object(place)), strict=True)
        except (ReadError, ValidationError) as error:
            said = error.reason if isinstance(error, ReadError) else f"holds {_misfit(error)}"
            raise CheckpointError(
                f"{shown(place)} is no finished cell: it {said}. It is written whole, as JSON. Remove the file, and "
                "the cell is made again. Nothing was changed."
            ) from error

    def run_folder(self, label: str, seed: int) -> Path:
        """Return the run directory of a cell."""
        return self.folder / "runs" / self.name(label, seed)

    def name(self, label: str, seed: int) -> str:
        """Return the name of a cell's files; labels that differ have names that differ."""
        plain = re.sub(r"[^A-Za-z0-9_.-]+", "_", label)
        safe = plain if plain == label else f"{plain[:80]}-{digest([label.encode()])[:6]}"
        return f"{safe}.seed-{seed}"

    def _place(self, label: str, seed: int) -> Path:
        return self.folder / "cells" / f"{self.name(label, seed)}.json"

    def _require_same(self, wanted: Mapping[str, Any]) -> None:
        try:
            earlier = read_object(self.folder / IDENTITY)
        except ReadError as error:
            raise CheckpointError(
                f"{shown(self.folder)} cannot be continued: its {IDENTITY}, which states what the cells depend on, "
                f"{error.reason}. Name another folder with --out. Nothing was changed."
            ) from error
        changed = [
            f"{key[:40]}: {json.dumps(earlier.get(key))[:200]} -> {json.dumps(wanted.get(key))[:200]}"
            for key in dict.fromkeys([*earlier, *wanted])
            if earlier.get(key) != wanted.get(key)
        ]
        if changed:
            raise CheckpointError(
                f"'{self.folder}' holds cells of another table ({'; '.join(changed)}). Only the same one can be gone "
                "on with; rows and seeds may be added. Name another folder with --out. Nothing was changed."
            )


def _misfit(error: ValidationError) -> str:
    first = error.errors()[0]
    return f"{'.'.join(str(part) for part in first['loc'])[:60] or 'something else'}: {first['msg'].lower()}"


MODEL = "model"


def train_cell(
    build_model: Callable[[], CremaModel],
    train: Sequence[Record],
    test: Sequence[Record],
    *,
    folder: Path,
    settings: Mapping[str, Any],
    evaluation: EvaluationSettings,
    keep_model: bool = True,
    status: StatusLine | None = None,
) -> Measured:
    """Train a model and evaluate it on held-out questions.

    A training that was interrupted in this folder continues from its last checkpoint. Of a finished one the run's
    metrics stay; its checkpoints are deleted, because nothing continues it. A model of which nothing is trained, such
    as a vision-language model with what it sees alone, is evaluated as it is.

    Args:
        build_model: returns the model to train, the same one at every call.
        train, test: samples.
        folder: run directory.
        settings: of training, the seed included.
        evaluation: how the questions are asked and judged.
        keep_model: save the trained model too.
        status: where progress is shown.
    """
    model = build_model()
    again = (folder / CONFIG).is_file()
    started = time.monotonic()
    num_steps = 0
    if model.trainable_parameters():
        run = fit(model, train, out=folder, resume=again, status=status, **({} if again else settings))
        num_steps = run.num_steps
    duration_s = None if again else time.monotonic() - started
    cache = train_settings(None, dict(settings)).cache
    result = evaluate(
        model,
        test,
        evaluation.model_copy(update={"measures": ()}),
        cache=None if cache in NOT_A_FOLDER else cache,
        status=status,
        announce=False,
    )
    if keep_model:
        model.save_pretrained(folder / MODEL)
    shutil.rmtree(folder / CHECKPOINTS, ignore_errors=True)
    for pointer in (LAST, BEST):
        (folder / pointer).unlink(missing_ok=True)
    metrics = folder / METRICS
    exits = [line for line in read_metrics(metrics) if line["kind"] == "exit"] if metrics.is_file() else []
    return Measured(
        accuracy=result.accuracy,
        by_type=result.by_type,
        trainable=sum(parameter.numel() for parameter in model.trainable_parameters().values()),
        tokens_per_answer=result.tokens_per_answer,
        num_steps=num_steps,
        duration_s=duration_s,
        exited={str(line["modality"]): int(line["epoch"]) for line in exits},
    )
