"""The sections of a report that every training run has: curves, early exit explained, settings, environment."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from crema_core.common.atomic import write_text
from crema_core.common.environment import environment
from crema_core.plugins.hooks import load_hooks
from crema_core.plugins.hookspecs import ReportSection
from crema_core.report.html import facts_block, figure_block, page, paragraphs, table_block
from crema_core.report.plots import Lines, gradient_plot, loss_plot
from crema_core.train.metrics import METRICS, Value, read_metrics
from crema_core.train.run import read_config
from crema_core.train.settings import TrainSettings

REPORT = "report.html"


def write_run_report(run: Path, *, title: str, sections: Sequence[ReportSection] = ()) -> Path:
    """Write the report of a run directory into it.

    Args:
        run: a run directory with at least one finished epoch.
        title: heading.
        sections: shown before those about the training itself.

    Returns:
        The HTML file.

    Raises:
        CheckpointError: when the folder holds no run.
    """
    config = read_config(run)
    lead = f"Modalities: {', '.join(config['modalities'])}. Training data: {config['data'].partition(',')[0]}."
    write_text(run / REPORT, page(title, lead, [*sections, *run_sections(run)]))
    return run / REPORT


def run_sections(run: Path) -> list[ReportSection]:
    """Return the sections about a run's training, those of installed packages included.

    Raises:
        CheckpointError: when the folder holds no run.
    """
    settings = read_config(run)["settings"]
    metrics = read_metrics(run / METRICS)
    curves = figure_block(loss_plot(metrics), "Training loss by update; a logged update is one minibatch.")
    curves += figure_block(
        gradient_plot(metrics), "Norm of the gradient of each modality's adapter; a cross marks an early exit."
    )
    sections = [
        ReportSection("Training", curves),
        ReportSection("Why a modality stopped", paragraphs(*explain_exits(metrics, settings))),
    ]
    if any(line["kind"] == "valid" for line in metrics):
        sections.append(ReportSection("Validation", _validation(metrics)))
    sections.append(ReportSection("Settings", _settings(settings)))
    sections.append(ReportSection("Environment", facts_block(environment())))
    added = load_hooks().call("crema_report_sections", run=run)
    return sections + [section for own in added for section in own]


def explain_exits(metrics: Lines, settings: Mapping[str, object]) -> list[str]:
    """Say for every modality why it stopped when it did, with the numbers compared.

    Args:
        metrics: lines of `metrics.jsonl`.
        settings: those of the run, by name.
    """
    tau = settings["early_exit"]
    epochs = [line for line in metrics if line["kind"] == "epoch"]
    if not isinstance(tau, int | float):
        return [f"Early exit was off: every modality trained for all {len(epochs)} epochs."]
    exits = {str(line["modality"]): line for line in metrics if line["kind"] == "exit"}
    names = dict.fromkeys(key.partition("/")[2] for line in epochs for key in line if key.startswith("grad_norm/"))
    rule = (
        f"A modality exits at the end of an epoch when its gradient norm is above {tau:g} times the mean of the epochs "
        f"before (tested from epoch {settings['early_exit_start_epoch']}, counted from 0)."
    )
    return [rule, *(_explain(name, exits.get(name), epochs, float(tau)) for name in names)]


def _explain(name: str, found: Mapping[str, Value] | None, epochs: Lines, tau: float) -> str:
    if found is not None:
        value, mean = float(found["value"]), float(found["mean"])
        return (
            f"{name} stopped after epoch {found['epoch']}: its gradient norm was {value:.4g}, and {tau:g} times the "
            f"mean of the epochs before ({mean:.4g}) is {tau * mean:.4g}."
        )
    norms = [float(line[f"grad_norm/{name}"]) for line in epochs if f"grad_norm/{name}" in line]
    if len(norms) < 2:
        return f"{name} trained to the end: one epoch has no past to compare with."
    mean = sum(norms[:-1]) / len(norms[:-1])
    return (
        f"{name} trained to the end: its last gradient norm was {norms[-1]:.4g}; exiting needed more than {tau:g} "
        f"times {mean:.4g}, that is {tau * mean:.4g}."
    )


def _validation(metrics: Lines) -> str:
    lines = [line for line in metrics if line["kind"] == "valid"]
    keys = list(dict.fromkeys(key for line in lines for key in line if key.startswith("accuracy")))
    header = ["epoch", *(key.partition("/")[2] or "all" for key in keys)]
    rows = [[str(line["epoch"]), *(f"{float(line[key]):.1%}" if key in line else "" for key in keys)] for line in lines]
    return table_block([header, *rows])


def _settings(settings: Mapping[str, object]) -> str:
    defaults = json.loads(TrainSettings().model_dump_json())
    rows = [["setting", "value", "default"]]
    for name, value in settings.items():
        default = defaults.get(name)
        rows.append([name, json.dumps(value), "" if value == default else json.dumps(default)])
    return paragraphs("The last column is filled where a value is not the default.") + table_block(rows, text=True)
