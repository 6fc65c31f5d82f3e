"""The section of a report that shows which of several encoders said how much."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from crema_core.plugins.hookspecs import ReportSection
from crema_core.report.html import Line, figure_block, table_block
from crema_core.report.plots import COLORS, label, new_figure, png_of
from crema_merv.weights import Said, mean_weights, strongest_clips


def encoder_sections(lines: Sequence[Line]) -> list[ReportSection]:
    """Return the section, or nothing where no line has weights of encoders.

    Args:
        lines: of one evaluation.
    """
    said = [Said(line["type"], line["clip"], line["encoder_weights"]) for line in lines if line.get("encoder_weights")]
    if not said:
        return []
    plot = figure_block(weights_plot(mean_weights(said)), "Mean share of each encoder, by type of question.")
    rows = [["encoder", "clips where it contributes most (share)"]]
    for name, clips in strongest_clips(said).items():
        rows.append([name, ", ".join(f"{clip} ({share:.0%})" for clip, share in clips)])
    return [ReportSection("Contribution of each encoder", plot + table_block(rows, text=True))]


def weights_plot(rows: Mapping[str, Mapping[str, float]]) -> bytes:
    """Draw shares as bars, one per row, each as long as the others.

    Args:
        rows: share in 0..1 by name, by row.
    """
    figure, axes = new_figure(0.9 + 0.32 * len(rows))
    names = list(dict.fromkeys(name for row in rows.values() for name in row))
    left = [0.0] * len(rows)
    for index, name in enumerate(names):
        widths = [row.get(name, 0.0) for row in rows.values()]
        color = COLORS[index % len(COLORS)]
        bars = axes.barh(range(len(rows)), widths, left=left, color=color, label=name, height=0.7)
        labels = [f"{100 * width:.0f}" if width > 0.06 else "" for width in widths]
        axes.bar_label(bars, labels, label_type="center", fontsize=8, color="white")
        left = [start + width for start, width in zip(left, widths, strict=True)]
    axes.set_yticks(range(len(rows)), map(label, rows), fontsize=9)
    axes.invert_yaxis()
    axes.set_xlim(0, 1)
    axes.set_xlabel("share of the tokens")
    axes.legend(fontsize=8, ncols=3, frameon=False, loc="lower center", bbox_to_anchor=(0.5, 1.0))
    return png_of(figure)
