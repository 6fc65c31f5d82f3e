"""Some answered questions for a report: right and wrong ones, types alternating, as cards."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from crema_core.report.html import cards_block, example_card

Line = Mapping[str, Any]
"""One line of what `evaluate(out=...)` writes, see `crema_core.evaluation.run.Prediction`."""

NUM_RIGHT, NUM_WRONG = 9, 9
ANSWERED = "examples.jsonl"
"""File of a run directory with the validation questions its model answered at the end, where there were any."""


def read_lines(path: Path) -> list[Line]:
    """Return the lines that `evaluate(out=...)` wrote."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def examples_block(
    lines: Sequence[Line],
    *,
    note: Callable[[Line], str] = lambda line: line["type"],
    picture: Callable[[Line], bytes] = lambda line: b"",
) -> str:
    """Return some answered questions, right ones first.

    Args:
        lines: of one evaluation.
        note: a small text under an answer.
        picture: a PNG image beside an answer, or nothing.
    """
    chosen = [*alternating(lines, correct=True)[:NUM_RIGHT], *alternating(lines, correct=False)[:NUM_WRONG]]
    return cards_block(
        [
            example_card(
                question=line["question"],
                expected=line["answer"],
                given=line["prediction"],
                correct=line["correct"],
                note=note(line),
                png=picture(line),
            )
            for line in chosen
        ]
    )


def alternating(lines: Sequence[Line], *, correct: bool) -> list[Line]:
    """Return the right or the wrong lines ordered so that question types alternate and samples differ.

    Args:
        lines: of one evaluation.
        correct: which ones.
    """
    by_type: dict[str, list[Line]] = {}
    for line in lines:
        if line["correct"] is correct:
            by_type.setdefault(line["type"], []).append(line)
    # Questions about one sample stand together in most data; the shift takes another sample for each type.
    shifted = [own[place % len(own) :] + own[: place % len(own)] for place, own in enumerate(by_type.values())]
    longest = max(map(len, shifted), default=0)
    return [own[turn] for turn in range(longest) for own in shifted if turn < len(own)]
