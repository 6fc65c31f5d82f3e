"""Accuracies laid out as the papers' tables: by question type, by group of types, with intervals."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from crema_core.datasets.spec import Column
from crema_core.evaluation.intervals import accuracy_interval

MEAN_OF_TYPES = "mean of types"


class Judged(Protocol):
    """What is needed of an answered question."""

    @property
    def type(self) -> str: ...

    @property
    def credit(self) -> float: ...

    @property
    def tied(self) -> tuple[str, ...]: ...

    @property
    def clip(self) -> str: ...


@dataclass(frozen=True)
class Row:
    """One line of the table."""

    name: str  # a question type, the name of several, or "all"
    accuracy: float  # 0..1
    number: int  # questions
    # 95% interval, see `crema_core.evaluation.intervals`; 0 and 1 where there is only one clip
    low: float
    high: float
    ties: int = 0  # questions among them whose best options tie, each counted as a draw among them


def breakdown(answered: Sequence[Judged], *, columns: Sequence[Column] = (), average_types: bool = False) -> list[Row]:
    """Return the rows of a table.

    Args:
        answered: judged questions, at least one.
        columns: groups of types that papers report.
        average_types: add the mean over question types, the total of some benchmarks.

    Returns:
        One row per type, then the groups that occur, then "all"; the mean of types, if wanted, comes last.
    """
    kinds = sorted({own.type for own in answered if own.type})
    parts = [(kind, [own for own in answered if own.type == kind]) for kind in kinds]
    for column in columns:
        pooled = [own for own in answered if own.type in column.types]
        if pooled:
            parts.append((column.name, pooled))
    rows = [_row(name, own) for name, own in [*parts, ("all", list(answered))]]
    if average_types and kinds:
        rows.append(_mean_of_types(answered, kinds, rows))
    return rows


def _row(name: str, answered: Sequence[Judged]) -> Row:
    right, clips = [own.credit for own in answered], [own.clip for own in answered]
    low, high = accuracy_interval(right, clips)
    return Row(name, sum(right) / len(right), len(right), low, high, sum(bool(own.tied) for own in answered))


def _mean_of_types(answered: Sequence[Judged], kinds: Sequence[str], rows: Sequence[Row]) -> Row:
    own = [row for row in rows if row.name in kinds][: len(kinds)]
    # Types have clips of their own, so the variances of their accuracies add up; the distances to the ends stand for
    # deviations, those below and those above by themselves (Zou and Donner 2008).
    below = sum((row.accuracy - row.low) ** 2 for row in own) ** 0.5 / len(own)
    above = sum((row.high - row.accuracy) ** 2 for row in own) ** 0.5 / len(own)
    mean = sum(row.accuracy for row in own) / len(own)
    ties = sum(row.ties for row in own)
    return Row(MEAN_OF_TYPES, mean, len(answered), max(0.0, mean - below), min(1.0, mean + above), ties)
