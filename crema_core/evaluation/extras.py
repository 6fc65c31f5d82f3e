"""What a strategy says beside answers, over many questions: means by question type."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from crema_core.evaluation.predictions import Prediction

ALL = "all"
"""Name of the mean over all questions."""

Means = dict[str, dict[str, float]]
"""By question type in alphabetical order, then "all": mean numbers by name."""


def mean_extras(predictions: Iterable[Prediction]) -> dict[str, Means]:
    """Average every output of the strategy by question type.

    Args:
        predictions: those without an output do not count in its means.

    Returns:
        By name of the output; nothing where the strategy has none.
    """
    said: dict[str, list[tuple[str, Mapping[str, float]]]] = {}
    for own in predictions:
        for output, numbers in own.extras.items():
            said.setdefault(output, []).append((own.type, numbers))
    return {output: _by_type(rows) for output, rows in said.items()}


def _by_type(rows: Sequence[tuple[str, Mapping[str, float]]]) -> Means:
    kinds = sorted({kind for kind, _ in rows if kind})
    parts = {kind: [numbers for own, numbers in rows if own == kind] for kind in kinds}
    return {name: _mean(own) for name, own in {**parts, ALL: [numbers for _, numbers in rows]}.items()}


def _mean(rows: Sequence[Mapping[str, float]]) -> dict[str, float]:
    return {name: sum(row[name] for row in rows) / len(rows) for name in rows[0]}
