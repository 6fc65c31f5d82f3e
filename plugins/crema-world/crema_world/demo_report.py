"""The demo's page: the table, its heat map, questions with answers beside a frame of their clip, then the training."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

import torch
from PIL import Image

from crema_core.common.atomic import write_text
from crema_core.data.data_file import Record
from crema_core.data.media import read_frames, resize
from crema_core.plugins.hookspecs import ReportSection
from crema_core.report.html import (
    About,
    examples_block,
    facts_block,
    figure_block,
    page,
    paragraphs,
    read_lines,
    table_block,
)
from crema_core.report.plots import accuracy_plot
from crema_core.report.run_report import run_sections
from crema_world.demo_results import DemoResult, Row, cells
from crema_world.questions import CHOICES_OF_TYPE, MODALITY_OF_TYPE
from crema_world.scene import IMAGE_SIZE

TITLE = "CREMA demo: one model, eight modalities, clips it has never seen"


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
        f"{sets[1].label} alone: {sets[1].accuracy:.1%}; all modalities: {every.accuracy:.1%}."
    )
    predictions = sorted((out / "predictions").glob("*.jsonl"))[-1]
    sections = [
        ReportSection("Accuracy by set of modalities", _accuracy(result)),
        ReportSection("Does the accuracy come from the modalities?", _checks(result)),
        ReportSection("Questions and answers, all modalities given", _examples(predictions, records)),
        *run_sections(run),
        ReportSection("Wall time", facts_block({name: f"{value:.1f} s" for name, value in result.seconds.items()})),
    ]
    write_text(out / "report.html", page(TITLE, lead, sections))


def _accuracy(result: DemoResult) -> str:
    plotted = {row.label: _columns(row) for row in result.rows if row.kind != "shuffled"}
    own = {row.label: [kind for kind, modality in MODALITY_OF_TYPE.items() if modality == row.modalities[-1]]
           for row in result.rows if row.kind == "set" and row.modalities}  # fmt: skip
    caption = "Accuracy in per cent; bold: the questions that the modality added in this row can answer."
    costs = (
        "Every row after the first three is the same model, given more modalities. Tokens are those the language model "
        "reads; GFLOPs count a multiply-add as two and include the frozen encoders."
    )
    table = table_block(cells(row for row in result.rows if row.kind != "shuffled"))
    return figure_block(accuracy_plot(plotted, mark=own), caption) + table + paragraphs(costs)


def _columns(row: Row) -> dict[str, float]:
    overall = {} if row.accuracy is None else {"all": row.accuracy}
    return overall | {kind: row.by_type[kind] for kind in CHOICES_OF_TYPE if kind in row.by_type}


def _checks(result: DemoResult) -> str:
    texts = (
        "Answers are balanced, so whoever reads only the question is at chance, and RGB cannot show what only another "
        "modality shows. Below all modalities are given, but one is taken from another clip: its questions must fall "
        "back to chance.",
        *(f"Missed: {line}" for line in result.missed),
    )
    verdict = paragraphs(*texts, *([] if result.missed else ["All of this holds."]))
    return verdict + table_block(
        [["modality", "question", "all modalities", "modality shuffled", "chance"], *_shuffled(result)]
    )


def _shuffled(result: DemoResult) -> list[list[str]]:
    chance = result.rows[0].by_type
    intact = [row for row in result.rows if row.kind == "set"][-1].by_type
    return [
        [row.modalities[0], kind, *(f"{100 * value:.1f}" for value in (intact[kind], accuracy, chance[kind]))]
        for row in result.rows
        if row.kind == "shuffled"
        for kind, accuracy in row.by_type.items()
    ]


def _examples(predictions: Path, records: Sequence[Record]) -> str:
    by_id = {record.id: record for record in records}
    return examples_block(
        read_lines(predictions),
        note=lambda line: f"needs {MODALITY_OF_TYPE[line['type']]}",
        about=lambda line: about(by_id[line["id"]]),
    )


def about(record: Record) -> About:
    """Return the middle frame of a clip, and its name."""
    file = Path(_clip(record)).name
    return About(file, record.choices or (), picture(record), alt=f"middle frame of {file}")


def picture(record: Record) -> bytes:
    """Return the middle frame of a clip as a PNG image."""
    frame_3HW = resize(read_frames(_clip(record), num_frames=1).frames, IMAGE_SIZE)[0]
    pixels = (frame_3HW.permute(1, 2, 0) * 255).round().to(torch.uint8).numpy()
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format="png")
    return buffer.getvalue()


def _clip(record: Record) -> str:
    return record.paths(next(iter(MODALITY_OF_TYPE.values())))[0]
