"""The demo's page: the table, its heat map, questions with answers beside a frame of their clip, then the training."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from crema_core.data.manifest import Record
from crema_core.data.media import read_frames
from crema_core.io.atomic import write_text
from crema_core.plugins.hookspecs import ReportSection
from crema_core.report.html import cards_block, example_card, facts_block, figure_block, page, paragraphs, table_block
from crema_core.report.plots import accuracy_plot
from crema_core.report.run_report import run_sections
from crema_core.world.demo_results import DemoResult, Row, cells
from crema_core.world.questions import CHOICES_OF_TYPE, SENSE_OF_TYPE

TITLE = "CREMA demo: one model, eight senses, clips it has never seen"
NUM_RIGHT, NUM_WRONG = 9, 9


def write_demo_report(out: Path, run: Path, records: Sequence[Record], result: DemoResult) -> None:
    """Write `OUT/report.html`.

    Args:
        out: the demo's folder, with its predictions.
        run: the run directory.
        records: the test questions.
        result: what the demo found.
    """
    sets = [row for row in result.rows if row.kind == "set"]
    every = sets[-1]
    lead = (
        f"{result.num_questions:,} questions about held-out clips of a generated world. "
        f"{sets[1].label} alone: {sets[1].accuracy:.1%}; all senses: {every.accuracy:.1%}."
    )
    predictions = sorted((out / "predictions").iterdir())[-1]
    sections = [
        ReportSection("Accuracy by set of senses", _accuracy(result)),
        ReportSection("Does the accuracy come from the senses?", _checks(result)),
        ReportSection("Questions and answers, all senses given", _examples(predictions, records)),
        *run_sections(run),
        ReportSection("Wall time", facts_block({name: f"{value:.1f} s" for name, value in result.seconds.items()})),
    ]
    write_text(out / "report.html", page(TITLE, lead, sections))


def _accuracy(result: DemoResult) -> str:
    plotted = {row.label: _columns(row) for row in result.rows if row.kind != "shuffled"}
    own = {row.label: [kind for kind, sense in SENSE_OF_TYPE.items() if sense == row.senses[-1]]
           for row in result.rows if row.kind == "set" and row.senses}  # fmt: skip
    caption = "Accuracy in per cent; bold: the questions that the sense added in this row can answer."
    costs = (
        "Every row after the first three is the same model, given more senses. Tokens are those the language model "
        "reads; GFLOPs count a multiply-add as two and include the frozen encoders."
    )
    return figure_block(accuracy_plot(plotted, mark=own), caption) + table_block(cells(result.rows)) + paragraphs(costs)


def _columns(row: Row) -> dict[str, float]:
    overall = {} if row.accuracy is None else {"all": row.accuracy}
    return overall | {kind: row.by_type[kind] for kind in CHOICES_OF_TYPE if kind in row.by_type}


def _checks(result: DemoResult) -> str:
    texts = (
        "Answers are balanced, so whoever reads only the question is at chance. The major sense alone cannot know what "
        "only another sense shows. In the shuffled rows all senses are given, but one comes from another clip: "
        "its questions must fall back to chance.",
        *(f"Missed: {line}" for line in result.missed),
    )
    return paragraphs(*texts, *([] if result.missed else ["All of this holds."]))


def _examples(predictions: Path, records: Sequence[Record]) -> str:
    by_id = {record.id: record for record in records}
    lines = [json.loads(line) for line in predictions.read_text(encoding="utf-8").splitlines()]
    chosen = [*_spread(lines, correct=True)[:NUM_RIGHT], *_spread(lines, correct=False)[:NUM_WRONG]]
    return cards_block([_card(line, by_id[line["id"]]) for line in chosen])


def _spread(lines: Sequence[Mapping[str, Any]], *, correct: bool) -> list[Mapping[str, Any]]:
    """Order lines so that types alternate and clips differ."""
    by_type = {kind: [line for line in lines if line["type"] == kind and line["correct"] is correct]
               for kind in CHOICES_OF_TYPE}  # fmt: skip
    longest = max(map(len, by_type.values()), default=0)
    order = [(turn, place) for turn in range(longest) for place in range(len(by_type))]
    own = list(by_type.values())
    # The shift by type takes another clip for each, where there are enough.
    return [own[place][(turn + place) % len(own[place])] for turn, place in order if turn < len(own[place])]


def _card(line: Mapping[str, Any], record: Record) -> str:
    return example_card(
        question=line["question"],
        expected=line["answer"],
        given=line["prediction"],
        correct=line["correct"],
        note=f"needs {SENSE_OF_TYPE[line['type']]}",
        png=_picture(record),
    )


def _picture(record: Record) -> bytes:
    """Return the middle frame of a clip."""
    source = record.sources[next(iter(SENSE_OF_TYPE.values()))]
    frame_3HW = read_frames(source, num_frames=1).frames[0]
    pixels = (frame_3HW.permute(1, 2, 0) * 255).round().to(torch.uint8).numpy()
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format="png")
    return buffer.getvalue()
