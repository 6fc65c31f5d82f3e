"""Plots of a run as PNG bytes, drawn to be read on a phone: narrow, few ticks, large letters.

Figures are made without pyplot, so nothing global is touched and no display is needed.
"""

from __future__ import annotations

import io
import itertools
import math
from collections.abc import Mapping, Sequence

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.text import Text
from matplotlib.ticker import MaxNLocator

from crema_core.train.metrics import Value

Lines = Sequence[Mapping[str, Value]]

# Okabe and Ito's colours, told apart by colour-blind readers too; black is kept for the mean.
COLORS = ("#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#56B4E9", "#8C6D31", "#7B4173", "#999999", "#B8A500")
WIDTH_IN, DPI = 5.2, 150
MAX_LABEL_CHARS = 28


def loss_plot(metrics: Lines) -> bytes:
    """Draw the training loss over updates, of every modality and their mean.

    Args:
        metrics: lines of `metrics.jsonl`, see `crema_core.train.metrics`.
    """
    figure, axes = new_figure(3.4)
    steps = [line for line in metrics if line["kind"] == "step"]
    for index, name in enumerate(_names(steps, "loss/")):
        _curve(axes, steps, "step", f"loss/{name}", color=COLORS[index % len(COLORS)], label=label(name), alpha=0.55)
    _curve(axes, steps, "step", "loss", color="black", label="mean", linewidth=1.8)
    axes.set_xlabel("updates")
    axes.set_ylabel("loss (cross-entropy)")
    axes.set_ylim(bottom=0)
    return png_of(figure, axes)


def gradient_plot(metrics: Lines, *, num_epochs: int | None = None) -> bytes:
    """Draw the gradient norm of every modality by epoch, one above the other (the paper's Figure 2).

    A dashed line is what early exit compared the norm with, where it tested; a cross marks an exit, and the epochs it
    saved are shaded. A ring is a norm above it in an epoch whose loss still fell.

    Args:
        metrics: lines of `metrics.jsonl`.
        num_epochs: of the whole run; None: as many as were trained.
    """
    epochs = [line for line in metrics if line["kind"] == "epoch"]
    exits = {line["modality"]: line for line in metrics if line["kind"] == "exit"}
    names = _names(epochs, "grad_norm/")
    last = max(map(epoch_number, epochs), default=1) if num_epochs is None else num_epochs
    figure = Figure(figsize=(WIDTH_IN, 0.9 + 1.35 * max(len(names), 1)), dpi=DPI, layout="constrained")
    rows = figure.subplots(max(len(names), 1), 1, sharex=True, squeeze=False)[:, 0]
    for axes, name, color in zip(rows, names, itertools.cycle(COLORS), strict=False):
        _curve(axes, epochs, "epoch", f"grad_norm/{name}", color=color, marker="o", markersize=3)
        _curve(axes, epochs, "epoch", f"exit_threshold/{name}", color="0.35", linestyle="--", marker=".", markersize=3)
        held = [line for line in epochs if f"exit_held/{name}" in line]
        _curve(
            axes, held, "epoch", f"grad_norm/{name}", color="black", linestyle="", marker="o", mfc="none", markersize=7
        )
        if name in exits:
            at, value = epoch_number(exits[name]), _number(exits[name]["value"])
            axes.plot([at], [value], "x", color="black", markersize=9, mew=2.5)
            axes.axvspan(at + 0.5, max(last, at) + 0.5, color="0.92")
        axes.set_title(label(name), loc="left", fontsize="medium")
        axes.spines[["top", "right"]].set_visible(False)
        axes.set_ylim(bottom=0)
        axes.yaxis.set_major_locator(MaxNLocator(3))
    rows[-1].set_xlim(0.5, last + 0.5)
    rows[-1].set_xlabel("epoch")
    rows[-1].xaxis.set_major_locator(MaxNLocator(integer=True))
    figure.supylabel("gradient norm")
    return png_of(figure)


def accuracy_plot(rows: Mapping[str, Mapping[str, float]], *, mark: Mapping[str, Sequence[str]] | None = None) -> bytes:
    """Draw accuracies as a heat map, one row per set of modalities, one column per question type.

    Args:
        rows: accuracy in 0..1 by column, by row; a column may be missing in a row.
        mark: columns to frame, by row.
    """
    return heat_map(rows, mark or {}, colors="YlGn", low=0.0, high=1.25, form="{:.0f}")


def heat_map(
    rows: Mapping[str, Mapping[str, float]],
    mark: Mapping[str, Sequence[str]],
    *,
    colors: str,
    low: float,
    high: float,
    form: str,
) -> bytes:
    """Draw numbers as a heat map with their hundredfold written in the cells.

    Args:
        rows: number by column, by row; a column may be missing in a row.
        mark: columns written bold, by row.
        colors: name of matplotlib's colour map.
        low, high: numbers at its ends.
        form: of the hundredfold, for `str.format`.

    Returns:
        a PNG image.
    """
    columns = list(dict.fromkeys(column for row in rows.values() for column in row))
    names = [label(column) for column in columns]
    # Slanted names of twelve letters and eleven columns fit; more of either need room.
    height_in = 0.9 + 0.3 * len(rows) + 0.05 * max(0, max(map(len, names), default=0) - 12)
    figure, axes = new_figure(height_in, width_in=WIDTH_IN + 0.32 * max(0, len(columns) - 11))
    values = [[row.get(column, math.nan) for column in columns] for row in rows.values()]
    drawn = axes.imshow(values, cmap=colors, vmin=low, vmax=high, aspect="auto")
    for y, row in enumerate(values):
        for x, value in enumerate(row):
            if not math.isnan(value):
                bold = columns[x] in mark.get(list(rows)[y], ())
                weight = "bold" if bold else "normal"
                ink = _ink(drawn.to_rgba(np.array([value]))[0].tolist())
                text = form.format(100 * value)
                axes.text(x, y, text, ha="center", va="center", fontsize=9, fontweight=weight, color=ink)
    axes.set_xticks(range(len(columns)), names, rotation=40, ha="left", fontsize=9)
    axes.set_yticks(range(len(rows)), map(label, rows), fontsize=9)
    axes.xaxis.tick_top()
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    return png_of(figure)


def label(text: str) -> str:
    """Return a text of others as it fits beside a plot: one line, its beginning where it is long."""
    line = " ".join(text.split())
    return line if len(line) <= MAX_LABEL_CHARS else line[: MAX_LABEL_CHARS - 1] + "…"


def _ink(color: Sequence[float]) -> str:
    """Return black or white, whichever is read better on a colour (WCAG 2, relative luminance)."""
    red, green, blue = (own / 12.92 if own <= 0.04045 else ((own + 0.055) / 1.055) ** 2.4 for own in color[:3])
    return "black" if 0.2126 * red + 0.7152 * green + 0.0722 * blue > 0.179 else "white"


def new_figure(height_in: float, *, width_in: float = WIDTH_IN) -> tuple[Figure, Axes]:
    """Return a figure with one pair of axes, of the usual width unless another is given.

    Args:
        height_in, width_in: in inches.
    """
    figure = Figure(figsize=(width_in, height_in), dpi=DPI, layout="constrained")
    axes = figure.add_subplot()
    axes.spines[["top", "right"]].set_visible(False)
    return figure, axes


def _curve(axes: Axes, lines: Lines, along: str, key: str, **style: object) -> None:
    points = [(_place(line, along), _number(line[key])) for line in lines if key in line]
    axes.plot([x for x, _ in points], [y for _, y in points], **style)  # type: ignore[arg-type]


def epoch_number(line: Mapping[str, Value]) -> int:
    """Return the epoch of a line as people are told it, from 1; the file counts from 0."""
    return int(line["epoch"]) + 1


def _place(line: Mapping[str, Value], along: str) -> float:
    return epoch_number(line) if along == "epoch" else _number(line[along])


def _names(lines: Lines, prefix: str) -> list[str]:
    """Return what follows `prefix` in the keys, in order of appearance."""
    return list(dict.fromkeys(key.removeprefix(prefix) for line in lines for key in line if key.startswith(prefix)))


def _number(value: Value) -> float:
    # Infinity and NaN are texts in the metrics file.
    return float(value)


def png_of(figure: Figure, axes: Axes | None = None) -> bytes:
    """Return a figure as a PNG image, with a legend where axes with labels are given.

    Dollar signs in names of types, modalities and files are no formulas.
    """
    if axes is not None and axes.get_legend_handles_labels()[0]:
        axes.legend(fontsize=8, ncols=2, frameon=False)
    buffer = io.BytesIO()
    for text in figure.findobj(Text):
        text.set_parse_math(False)
    with matplotlib.rc_context({"text.parse_math": False}):  # for ticks that are made while it is drawn
        figure.savefig(buffer, format="png")
    return buffer.getvalue()
