"""Log the gradient norm of every parameter of every sub-step; imports no torch, because `crema --help` imports it."""

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from crema_core.common.atomic import write_text
from crema_core.plugins.hookspecs import ReportSection, hookimpl

FILE = "gradients.jsonl"
EVERY = "CREMA_GRADIENTS_EVERY"
SHOWN = 10


@hookimpl
def crema_train_started(trainer: Any) -> None:
    """Drop the lines of minibatches that a resumed run trains again."""
    file = trainer.folder / FILE
    if file.exists():
        kept = [line for line in read_lines(file) if line["step"] <= trainer.step]
        write_text(file, "".join(json.dumps(line) + "\n" for line in kept))


@hookimpl
def crema_gradients_ready(trainer: Any, step: int, modalities: Sequence[str], norms: Mapping[str, float]) -> None:
    """Write one line for a sub-step, of the first and then of every tenth minibatch."""
    every = int(os.environ.get(EVERY, "10"))
    if step == 1 or step % every == 0:
        with (trainer.folder / FILE).open("a", encoding="utf-8") as file:
            file.write(json.dumps({"step": step, "modalities": list(modalities), "norms": dict(norms)}) + "\n")


@hookimpl
def crema_report_sections(run: Path) -> Sequence[ReportSection]:
    """Return a table of the parameters with the largest gradients, for the run's report."""
    from crema_core.report.html import (
        paragraphs,
        table_block,
    )  # a report is drawn with matplotlib, which takes a second

    file = run / FILE
    norms: dict[str, list[float]] = {}
    for line in read_lines(file) if file.exists() else ():
        for name, norm in line["norms"].items():
            norms.setdefault(name, []).append(norm)
    if not norms:
        return []
    largest = sorted(norms, key=lambda name: sum(norms[name]) / len(norms[name]), reverse=True)[:SHOWN]
    rows = [[name, *(f"{value:.3g}" for value in _summary(norms[name]))] for name in largest]
    text = paragraphs(f"The {len(rows)} largest of {len(norms)} parameters, from {FILE}.")
    return [ReportSection("Gradients", text + table_block([["parameter", "first", "mean", "last"], *rows]))]


def read_lines(file: Path) -> Iterator[dict[str, Any]]:
    """Yield the complete lines of a file; one that a crash cut off is left out."""
    for line in file.read_text(encoding="utf-8").splitlines(keepends=True):
        if line.endswith("\n"):
            yield json.loads(line)


def _summary(values: Sequence[float]) -> tuple[float, float, float]:
    return values[0], sum(values) / len(values), values[-1]
