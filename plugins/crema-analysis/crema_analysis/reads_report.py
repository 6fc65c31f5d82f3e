"""Pictures of what a clip's frames read: a map over time, one over places, and where something is added."""

from __future__ import annotations

from pathlib import Path

from matplotlib.figure import Figure
from torch import Tensor

from crema_analysis.draw import over_pictures, spread_steps
from crema_analysis.reads import ReadMap
from crema_core.common.atomic import write_bytes
from crema_core.data.sheet import times_as_captions
from crema_core.report.html import figure_block
from crema_core.report.plots import DPI, WIDTH_IN, png_of

MAX_LABELS = 12


def time_picture(name: str, own: ReadMap, *, layer: int | None = None) -> bytes:
    """Draw how much every frame (rows) reads every step (columns).

    Args:
        name: of the modality that is read, for the heading.
        own: its map.
        layer: a layer of attention, counted from 0; None: the mean of all.

    Returns:
        a PNG image.
    """
    weights_FT = own.over_time(layer)
    num_frames, num_steps = weights_FT.shape
    figure = Figure(figsize=(WIDTH_IN, 1.0 + min(4.0, 0.3 * num_frames)), dpi=DPI, layout="constrained")
    axes = figure.add_subplot()
    axes.imshow(weights_FT.numpy(), cmap="inferno", vmin=0, vmax=1, aspect="auto", interpolation="nearest")
    axes.set_title(f"{name}: weight of every step", fontsize=10)
    frames, steps = times_as_captions(own.times, num_frames), times_as_captions(own.side_times, num_steps)
    shown_frames, shown_steps = _labelled(num_frames), _labelled(num_steps)
    axes.set_yticks(shown_frames, [frames[frame] for frame in shown_frames], fontsize=8)
    axes.set_xticks(shown_steps, [steps[step] for step in shown_steps], fontsize=7)
    axes.set_ylabel("frame", fontsize=9)
    axes.set_xlabel(f"step of {name}", fontsize=9)
    return png_of(figure)


def place_picture(name: str, own: ReadMap, *, layer: int | None = None) -> bytes:
    """Draw how much frames, at most eight evenly spread, read every place of a step: as grids, or as strips.

    Arguments as in `time_picture`.
    """
    places_FN = own.over_places(layer)
    shown = spread_steps(places_FN.shape[0])
    captions = times_as_captions(own.times, places_FN.shape[0])
    if own.side_grid is None:
        figure = Figure(figsize=(WIDTH_IN, 0.9 + 0.35 * len(shown)), dpi=DPI, layout="constrained")
        axes = figure.add_subplot()
        axes.imshow(places_FN[shown].numpy(), cmap="inferno", vmin=0, aspect="auto", interpolation="nearest")
        axes.set_yticks(range(len(shown)), [captions[frame] for frame in shown], fontsize=8)
        axes.set_xlabel(f"token of {name}", fontsize=9)
        return png_of(figure)
    return _grids(f"{name}: places that each frame reads", places_FN.view(-1, *own.side_grid), captions)


def added_picture(name: str, own: ReadMap) -> bytes | None:
    """Draw how much every token gets, over the frames' pictures where there are some; None without a grid of tokens."""
    heat, title = own.added_heat(), f"{name}: length of what is added"
    if heat is None:
        return None
    if own.pictures is None:
        return _grids(title, heat, times_as_captions(own.times, heat.shape[0]))
    return over_pictures(title, heat, own.pictures, own.times)


def reading_blocks(name: str, own: ReadMap, out: Path, *, layer: int | None = None) -> list[str]:
    """Write one modality's pictures into a folder and return their blocks of the page.

    Args:
        name: of the modality that is read.
        own: its map.
        out: folder for `NAME-time.png`, `NAME-places.png` and `NAME-added.png`.
        layer: a layer of attention, from 0; None: the mean of all.
    """
    where = "all layers" if layer is None else f"layer {layer}"
    drawn = [
        (
            "time",
            time_picture(name, own, layer=layer),
            f"{name}: how much each frame of the clip reads each step, mean of heads, of a frame's tokens and of "
            f"{where}; a frame's row sums to 1.",
        )
    ]
    if own.by_place.shape[-1] > 1:
        text = f"{name}: how much each frame reads each place of a step, over all steps, mean as above."
        drawn.append(("places", place_picture(name, own, layer=layer), text))
    added = added_picture(name, own)
    if added is not None:
        text = f"Where {name} changes the clip's tokens: the length of what is added to each."
        drawn.append(("added", added, text))
    blocks = []
    for kind, png, text in drawn:
        write_bytes(out / f"{name}-{kind}.png", png)
        blocks.append(figure_block(png, text))
    return blocks


def _grids(title: str, heat: Tensor, captions: list[str]) -> bytes:
    """Draw `(F, rows, columns)`, at most eight frames evenly spread, on one scale."""
    shown = spread_steps(heat.shape[0])
    columns = min(4, len(shown))
    rows = -(-len(shown) // columns)
    figure = Figure(figsize=(WIDTH_IN, 0.3 + rows * (0.95 * WIDTH_IN / columns + 0.1)), dpi=DPI, layout="constrained")
    figure.suptitle(title, fontsize=10)
    highest = float(heat[shown].amax())
    for number, frame in enumerate(shown):
        axes = figure.add_subplot(rows, columns, number + 1)
        axes.imshow(heat[frame].numpy(), cmap="inferno", vmin=0, vmax=highest, interpolation="nearest")
        axes.set_axis_off()
        axes.set_title(captions[frame], fontsize=8)
    return png_of(figure)


def _labelled(count: int) -> list[int]:
    every = -(-count // MAX_LABELS)
    return list(range(0, count, every))
