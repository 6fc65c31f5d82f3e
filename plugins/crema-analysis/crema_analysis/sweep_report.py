"""The page of tables of trainings: each with its picture, its numbers by question type, and how to read them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from crema_analysis.cells import TrainedTable
from crema_analysis.plots import seeds_plot
from crema_core.common.atomic import write_text
from crema_core.common.environment import environment
from crema_core.plugins.hookspecs import ReportSection
from crema_core.report.html import facts_block, figure_block, page, paragraphs, table_block
from crema_core.report.plots import accuracy_plot


def write_trained_tables(out: Path, tables: Sequence[TrainedTable], *, name: str, title: str, lead: str) -> Path:
    """Write `NAME.json` and `NAME.html` into a folder.

    Args:
        out: the folder, made where it is missing.
        tables: finished ones, with one row or more.
        name: of the files.
        title: heading.
        lead: a sentence under the heading.

    Returns:
        the HTML file.
    """
    write_text(out / f"{name}.json", json.dumps([own.to_dict() for own in tables], indent=2) + "\n")
    sections = [ReportSection(own.title, table_section(own)) for own in tables]
    sections.append(ReportSection("Environment", facts_block(environment())))
    place = out / f"{name}.html"
    write_text(place, page(title, lead, sections))
    return place


def table_section(own: TrainedTable) -> str:
    """Return the body of one table's section."""
    picture = figure_block(
        seeds_plot({row.label: row.values("all") for row in own.rows}),
        "Accuracy: a dot for each seed, a bar for the mean.",
    )
    parts = [picture, table_block(own.texts()), paragraphs(*own.notes)]
    if len(own.columns) > 1:
        means = {row.label: {column: row.mean(column) for column in own.columns} for row in own.rows}
        parts.insert(2, figure_block(accuracy_plot(means), "Mean accuracy in per cent, by question type."))
    exits = [
        f"{row.label}, seed {seed}: "
        + ", ".join(f"{modality} after epoch {epoch + 1}" for modality, epoch in cell.exited.items())
        for row in own.rows
        for seed, cell in row.cells.items()
        if cell.exited
    ]
    if exits:
        parts.append(paragraphs("Modalities that exited early: " + "; ".join(exits) + "."))
    return "".join(parts)
