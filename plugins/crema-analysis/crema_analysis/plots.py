"""Plots of ablations and sweeps: changes of accuracy, and what several seeds gave."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from crema_core.report.plots import COLORS, heat_map, label, new_figure, png_of


def change_plot(rows: Mapping[str, Mapping[str, float]], *, mark: Mapping[str, Sequence[str]] | None = None) -> bytes:
    """Draw changes of accuracies as a heat map: losses red, gains blue, no change white.

    Args:
        rows: change in -1..1 by column, by row; a column may be missing in a row.
        mark: columns written bold, by row.
    """
    return heat_map(rows, mark or {}, colors="RdBu", low=-1.4, high=1.4, form="{:+.0f}")


def seeds_plot(rows: Mapping[str, Sequence[float]]) -> bytes:
    """Draw what several seeds gave: a dot for each, a bar for their mean, one line per row.

    Args:
        rows: accuracies in 0..1 by row, at least one each.
    """
    figure, axes = new_figure(1.1 + 0.32 * len(rows))
    for y, values in enumerate(rows.values()):
        per_cent = [100 * value for value in values]
        axes.barh(y, sum(per_cent) / len(per_cent), color=COLORS[5], height=0.6, alpha=0.5)
        axes.plot(per_cent, [y] * len(per_cent), "o", color=COLORS[0], markersize=4)
    axes.set_yticks(range(len(rows)), map(label, rows), fontsize=9)
    axes.invert_yaxis()
    axes.set_xlim(0, 100)
    axes.set_xlabel("accuracy, per cent")
    return png_of(figure)
