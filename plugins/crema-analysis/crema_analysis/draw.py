"""Heat drawn over the pictures of a clip's steps."""

from __future__ import annotations

from matplotlib.figure import Figure
from torch import Tensor

from crema_core.data.sheet import times_as_captions
from crema_core.report.plots import DPI, WIDTH_IN, png_of

MAX_FRAMES = 8


def over_pictures(title: str, heat: Tensor, pictures: Tensor, times: Tensor | None) -> bytes:
    """Draw steps, at most eight evenly spread: pictures above, with the heat over them below; one alone beside.

    Args:
        title: heading.
        heat: `(T, rows, columns)`; one scale for all steps.
        pictures: `(T, 3, H, W)` in 0..1.
        times: `(T, 2)` seconds, or None.

    Returns:
        a PNG image.
    """
    shown = spread_steps(heat.shape[0])
    captions = times_as_captions(times, heat.shape[0])
    alone = len(shown) == 1
    columns = 2 if alone else min(4, len(shown))
    rows = 1 if alone else 2 * -(-len(shown) // columns)
    figure = Figure(figsize=(WIDTH_IN, 0.3 + rows * (0.95 * WIDTH_IN / columns + 0.1)), dpi=DPI, layout="constrained")
    figure.suptitle(title, fontsize=10)
    highest = float(heat[shown].amax())
    height, width = pictures.shape[-2:]
    for place, step in enumerate(shown):
        row, column = divmod(place, columns)
        picture = pictures[step].permute(1, 2, 0).numpy()
        for below in (False, True):
            at = below if alone else (2 * row + below) * columns + column
            axes = figure.add_subplot(rows, columns, at + 1)
            axes.imshow(picture, extent=(0, width, height, 0))
            axes.set_axis_off()
            if below:
                over = heat[step].numpy()
                axes.imshow(over, cmap="inferno", vmin=0, vmax=highest, alpha=0.62, interpolation="bilinear",
                            extent=(0, width, height, 0))  # fmt: skip
            else:
                axes.set_title(captions[step], fontsize=8)
    return png_of(figure)


def spread_steps(count: int) -> list[int]:
    """Return at most `MAX_FRAMES` of 0..count-1, evenly spread.

    Example:
        >>> spread_steps(3), len(spread_steps(100))
        ([0, 1, 2], 8)
    """
    if count <= MAX_FRAMES:
        return list(range(count))
    return [round(place * (count - 1) / (MAX_FRAMES - 1)) for place in range(MAX_FRAMES)]
