"""A table of trainings: one model per row and seed, mean and spread over seeds."""

from __future__ import annotations

import statistics
from dataclasses import asdict, dataclass, field
from typing import Any

from crema_core.common.tables import table


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
        exited: last epoch of the senses that exited early, from 0.
    """

    accuracy: float
    by_type: dict[str, float]
    trainable: int
    tokens_per_answer: float
    num_steps: int
    duration_s: float | None
    exited: dict[str, int] = field(default_factory=dict)


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
