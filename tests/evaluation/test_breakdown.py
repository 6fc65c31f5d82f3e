"""Tables by type and by the papers' groups of types."""

from __future__ import annotations

from crema_core.datasets.spec import Column
from crema_core.evaluation.breakdown import MEAN_OF_TYPES, breakdown
from crema_core.evaluation.predictions import Prediction

COLUMNS = (
    Column(name="Causal", types=("CW", "CH")),
    Column(name="Temporal", types=("TN", "TC")),
    Column(name="Descriptive", types=("DC", "DL", "DO")),
)


def answered(kind: str, right: list[bool]) -> list[Prediction]:
    return [Prediction(f"{kind}{n}", kind, "?", "x", "y", own, (), 1, clip=f"{kind}{n}") for n, own in enumerate(right)]


def test_groups_pool_questions_as_the_papers_do() -> None:
    some = [
        *answered("CW", [True, True, True]),
        *answered("CH", [False]),
        *answered("TN", [True, False]),
        *answered("DO", [True]),
    ]
    rows = breakdown(some, columns=COLUMNS)
    assert [(row.name, row.accuracy, row.number) for row in rows] == [
        ("CH", 0.0, 1),
        ("CW", 1.0, 3),
        ("DO", 1.0, 1),
        ("TN", 0.5, 2),
        ("Causal", 0.75, 4),
        ("Temporal", 0.5, 2),
        ("Descriptive", 1.0, 1),
        ("all", 5 / 7, 7),
    ]
    assert all(row.low <= row.accuracy <= row.high for row in rows)


def test_groups_without_questions_are_left_out() -> None:
    rows = breakdown(answered("TC", [True]), columns=COLUMNS)
    assert [row.name for row in rows] == ["TC", "Temporal", "all"]


def test_some_benchmarks_average_their_types() -> None:
    rows = breakdown([*answered("a", [True] * 3), *answered("b", [False])], average_types=True)
    assert (rows[-2].name, rows[-2].accuracy) == ("all", 0.75)
    assert (rows[-1].name, rows[-1].accuracy) == (MEAN_OF_TYPES, 0.5)


def test_questions_without_a_type_count_in_the_total_alone() -> None:
    assert [row.name for row in breakdown(answered("", [True, False]))] == ["all"]


def test_rows_of_few_questions_have_intervals_with_a_width() -> None:
    rows = breakdown([*answered("a", [False] * 2), *answered("b", [True] * 2)], average_types=True)
    assert [(row.name, f"{row.low:.2f} to {row.high:.2f}") for row in rows] == [
        ("a", "0.00 to 0.66"),
        ("b", "0.34 to 1.00"),
        ("all", "0.15 to 0.85"),
        (MEAN_OF_TYPES, "0.17 to 0.83"),
    ]
