"""The page of an ablation: what each type of question needs, heat maps, tables with intervals."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path

from crema_analysis.ablation import Ablation, Cell, Variant, What
from crema_analysis.plots import change_plot
from crema_core.common.atomic import write_bytes, write_text
from crema_core.data.unusable import NUM_SHOWN
from crema_core.plugins.hookspecs import ReportSection
from crema_core.report.html import figure_block, page, paragraphs, table_block
from crema_core.report.plots import accuracy_plot

RESULTS, PAGE, ACCURACY, CHANGE = "ablation.json", "ablation.html", "accuracy.png", "change.png"

HEADINGS: dict[What, tuple[str, str]] = {
    "leave-one-out": (
        "One modality left out",
        "The model reads everything but one modality. What another modality also shows is not lost.",
    ),
    "growing": ("Growing sets of modalities", "The question alone, then one modality more in every row."),
    "shuffled": (
        "One modality of another clip",
        "The model gets as many tokens as ever, but one modality is about something else. Accuracy that stays came "
        "from elsewhere; accuracy below that without the modality was misled by it.",
    ),
}


def write_ablation(out: Path, ablation: Ablation, *, title: str = "What each modality is good for") -> Path:
    """Write `ablation.json`, `ablation.html` and its two pictures into a folder.

    Args:
        out: the folder, made where it is missing; files of these names in it are replaced.
        ablation: what was found.
        title: heading.

    Returns:
        the HTML file.
    """
    accuracy, change = _accuracy_picture(ablation), _change_picture(ablation)
    write_bytes(out / ACCURACY, accuracy)
    if change:
        write_bytes(out / CHANGE, change)
    write_text(out / RESULTS, json.dumps(ablation.to_dict(), indent=2) + "\n")
    whole = ablation.variants[0].cell("all")
    lead = (
        f"{ablation.num_questions:,} questions about {ablation.num_clips:,} clips; all modalities "
        f"({', '.join(ablation.variants[0].modalities)}): {whole.accuracy:.1%} ({whole.low:.1%} to {whole.high:.1%})."
    )
    write_text(out / PAGE, page(title, lead, list(_sections(ablation, accuracy, change))))
    return out / PAGE


def _sections(ablation: Ablation, accuracy: bytes, change: bytes) -> Iterator[ReportSection]:
    if change:
        rows = [["questions", "modalities they need"]]
        rows += [[name, ", ".join(own) or "none found"] for name, own in ablation.needed().items()]
        caption = "Change of accuracy in percentage points; bold: the 95% interval does not contain 0."
        rule = (
            "A modality is needed where its absence, or another clip's in its place, costs accuracy and the 95% "
            "interval of the loss lies below 0. The most costly stands first."
        )
        yield ReportSection(
            "Which modality matters for which questions",
            table_block(rows, text=True) + paragraphs(rule) + figure_block(change, caption),
        )
    yield ReportSection("Accuracy", figure_block(accuracy, "Accuracy in per cent, by question type."))
    for what, (heading, text) in HEADINGS.items():
        variants = ablation.of(what)
        if variants:
            body = paragraphs(text) + table_block(_cells([ablation.variants[0], *variants], ablation.columns))
            yield ReportSection(heading, body)
    if ablation.left_out:
        rows = [["comparison", "why it was not made"], *map(list, ablation.left_out.items())]
        yield ReportSection("Not compared", table_block(rows, text=True))
    if ablation.skipped:
        text = f"{len(ablation.skipped):,} samples have a file that cannot be used; {RESULTS} lists them all."
        shown = ablation.skipped[:NUM_SHOWN]
        rows = [["line", "modality", "file", "reason"], *([f"{o.line}", o.modality, o.source, o.reason] for o in shown)]
        yield ReportSection("Samples that were left out", paragraphs(text) + table_block(rows, text=True))


def _cells(variants: Sequence[Variant], columns: Sequence[str]) -> list[list[str]]:
    header = ["modalities", *columns, "tokens"]
    return [
        header,
        *([own.label, *map(_interval, own.cells), f"{own.tokens_per_answer:.0f}"] for own in variants),
    ]


def _interval(cell: Cell) -> str:
    return f"{100 * cell.accuracy:.1f} ({100 * cell.low:.0f}-{100 * cell.high:.0f})"


def _accuracy_picture(ablation: Ablation) -> bytes:
    return accuracy_plot({own.label: {cell.name: cell.accuracy for cell in own.cells} for own in ablation.variants})


def _change_picture(ablation: Ablation) -> bytes:
    """Return the changes by leaving out and exchanging; nothing where neither was asked for."""
    shown = [*ablation.of("leave-one-out"), *ablation.of("shuffled")]
    if not shown:
        return b""
    return change_plot(
        {own.label: {cell.name: cell.change for cell in own.cells} for own in shown},
        mark={own.label: [cell.name for cell in own.cells if cell.is_loss or cell.change_low > 0] for own in shown},
    )
