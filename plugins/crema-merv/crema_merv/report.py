"""The section of a report that shows which of several encoders said how much."""

from __future__ import annotations

from collections.abc import Sequence

from crema_core.plugins.hookspecs import ReportSection
from crema_core.report.examples import Line
from crema_core.report.html import figure_block, table_block
from crema_core.report.plots import shares_plot
from crema_merv.shares import Said, mean_shares, strongest_clips


def encoder_sections(lines: Sequence[Line]) -> list[ReportSection]:
    """Return the section, or nothing where no line has weights of encoders.

    Args:
        lines: of one evaluation.
    """
    said = [Said(line["type"], line["clip"], line["encoder_weights"]) for line in lines if line.get("encoder_weights")]
    if not said:
        return []
    plot = figure_block(shares_plot(mean_shares(said)), "Mean share of each encoder, by type of question.")
    rows = [["encoder", "clips where it says most (share)"]]
    for name, clips in strongest_clips(said).items():
        rows.append([name, ", ".join(f"{clip} ({share:.0%})" for clip, share in clips)])
    return [ReportSection("Which encoder says how much", plot + table_block(rows, text=True))]
