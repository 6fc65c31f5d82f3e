"""Plot a training while it runs: `live.html` in the run directory, which reloads itself; imports no torch."""

import time
from pathlib import Path
from typing import Any

from crema_core.plugins.hookspecs import ReportSection, hookimpl

FILE = "live.html"
SECONDS = 5.0


class LivePlot:
    """Draws at most every few seconds; a plot takes a fifth of a second."""

    def __init__(self) -> None:
        self._drawn_at = -SECONDS

    @hookimpl
    def crema_step_finished(self, trainer: Any) -> None:
        """Draw when the last plot is old."""
        if time.monotonic() - self._drawn_at >= SECONDS:
            draw(trainer.folder)
            self._drawn_at = time.monotonic()

    @hookimpl
    def crema_checkpoint_saved(self, path: Path) -> None:
        """Draw at the end of every epoch, the last one included; a checkpoint is in `checkpoints/` of the run."""
        draw(path.parents[1])


PLOT = LivePlot()


def draw(run: Path) -> None:
    """Write the page from what the run has logged so far (every `log_every` updates)."""
    from crema_core.common.atomic import write_text  # here, because `crema --help` imports this module
    from crema_core.report.html import figure_block, page
    from crema_core.report.plots import COLORS, new_figure, png_of
    from crema_core.train.metrics import METRICS, read_metrics

    steps = [line for line in read_metrics(run / METRICS) if line["kind"] == "step"]
    names = sorted({key for line in steps for key in line if key.startswith("loss/")})
    figure, axes = new_figure(3.4)
    for index, name in enumerate(names):
        points = [(int(line["step"]), float(line[name])) for line in steps if name in line]
        color = COLORS[index % len(COLORS)]
        axes.plot([x for x, _ in points], [y for _, y in points], color=color, label=name.removeprefix("loss/"))
    axes.set_xlabel("updates")
    axes.set_ylabel("loss (cross-entropy)")
    body = figure_block(png_of(figure, axes), f"Training loss, drawn at {time.strftime('%H:%M:%S')}.")
    text = page(run.name, "This page reloads itself while the run goes on.", [ReportSection("Loss", body)])
    write_text(run / FILE, text.replace("<head>", f'<head>\n<meta http-equiv="refresh" content="{SECONDS:.0f}">', 1))
