"""The sections of a report that every training run has: curves, early exit and changes by packages explained, settings,
environment.

Epochs count from 1, as in the status line; `metrics.jsonl` and settings count from 0.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from crema_core.common.atomic import write_text
from crema_core.common.environment import environment
from crema_core.common.progress import describe_duration
from crema_core.plugins.hooks import load_hooks
from crema_core.plugins.hookspecs import ReportSection
from crema_core.report.html import facts_block, figure_block, page, paragraphs, table_block
from crema_core.report.plots import Lines, epoch_number, gradient_plot, loss_plot
from crema_core.train.early_exit import exit_start_epoch, why_no_exit
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
        gradient_plot(metrics, num_epochs=settings["epochs"]),
        "What early exit looks at: each modality's gradient norm by epoch. Dashed: what it was compared with, where it "
        "was tested. A cross marks an early exit, the shaded epochs were saved; a ring is a norm above the dashed line "
        "in an epoch whose loss still fell.",
    )
    sections = [
        ReportSection("Training", curves),
        ReportSection("Why a modality stopped", paragraphs(*explain_exits(metrics, settings))),
    ]
    if changes := explain_changes(metrics):
        sections.append(ReportSection("What packages changed", paragraphs(*changes)))
    if any(line["kind"] == "valid" for line in metrics):
        sections.append(ReportSection("Validation", _validation(metrics)))
    sections.append(ReportSection("Settings", _settings(settings)))
    sections.append(ReportSection("Environment", facts_block(environment())))
    return sections + [own.item for own in load_hooks().collect("crema_report_sections", ReportSection, run=run)]


def explain_exits(metrics: Lines, settings: Mapping[str, object]) -> list[str]:
    """Say what early exit saved, and for every modality why it stopped when it did, with the numbers compared.

    Args:
        metrics: lines of `metrics.jsonl`.
        settings: those of the run, by name.
    """
    chosen = TrainSettings.model_validate(settings)
    epochs = [line for line in metrics if line["kind"] == "epoch"]
    if chosen.early_exit is None:
        return [f"Early exit was off: every modality trained for all {len(epochs)} epochs."]
    exits = {str(line["modality"]): line for line in metrics if line["kind"] == "exit"}
    texts = [_rule(chosen), why_no_exit(chosen), _saved(epochs, chosen.epochs) if exits else None]
    return [text for text in texts if text] + [_explain(name, exits.get(name), epochs) for name in _measured(epochs)]


def explain_changes(metrics: Lines) -> list[str]:
    """Say which packages stopped the run or scaled its learning rate, when and why.

    Args:
        metrics: lines of `metrics.jsonl`.
    """
    texts = []
    for index, line in enumerate(metrics):
        place = f"after update {line['step']:,} (epoch {epoch_number(line)})"
        if line["kind"] == "stop":
            resumed = any(later["kind"] == "step" for later in metrics[index:])
            text = f"{line['by']} stopped the run {place}: {line['reason']}"
            texts.append(f"{text}; it was resumed." if resumed else f"{text}.")
        elif line["kind"] == "lr_factor":
            texts.append(
                f"{line['by']} multiplied the learning rate by {float(line['factor']):g} {place}: {line['reason']}. "
                f"With all packages the schedule's rate was multiplied by {float(line['lr_factor']):g} from then on."
            )
    return texts


def _rule(settings: TrainSettings) -> str:
    weights = {"lora": "LoRA", "adapter": "adapter"}[settings.early_exit_metric]
    value = {"mean": f"mean gradient norm of its {weights}", "last": f"{weights}'s last gradient norm"}
    compared = {"peak": f"from its highest on, {settings.early_exit_patience} or more", "all": "before"}
    return (
        f"A modality exits at the end of an epoch when the {value[settings.early_exit_value]} is above "
        f"{settings.early_exit:g} times the mean of the epochs {compared[settings.early_exit_reference]} (tested from "
        f"epoch {exit_start_epoch(settings) + 1} on){_unless(settings)}."
    )


def _unless(settings: TrainSettings) -> str:
    drop = settings.early_exit_loss_drop
    return "" if drop is None else f", unless the loss is more than {drop:.0%} below that of the three epochs before"


def _measured(epochs: Lines) -> list[str]:
    return list(dict.fromkeys(key.partition("/")[2] for line in epochs for key in line if key.startswith("grad_norm/")))


def _saved(epochs: Lines, num_epochs: int) -> str | None:
    """Return what of the whole run's sub-steps was left out; None for joint updates, which have none."""
    made, whole, seconds = 0.0, 0.0, 0.0
    for name in _measured(epochs):
        own = [line for line in epochs if f"sub_steps/{name}" in line]
        if not own:
            continue
        steps = [float(line[f"sub_steps/{name}"]) for line in own]
        planned = num_epochs * sum(steps) / len(steps)
        times = [float(line[f"seconds/{name}"]) for line in own]
        made, whole = made + sum(steps), whole + planned
        seconds += sum(times) * (planned / sum(steps) - 1)
    if not whole:
        return None
    return (
        f"{made:,.0f} of {whole:,.0f} sub-steps were made: early exit saved {1 - made / whole:.0%} of them, about "
        f"{describe_duration(seconds)} at what a sub-step of each modality took."
    )


def _explain(name: str, found: Mapping[str, Value] | None, epochs: Lines) -> str:
    if found is not None:
        value, mean, tau = float(found["value"]), float(found["mean"]), float(found["tau"])
        return (
            f"{name} stopped after epoch {epoch_number(found)}: its gradient norm was {value:.4g}, and {tau:g} times "
            f"the mean of the {found['num_epochs']} epochs before ({mean:.4g}) is {tau * mean:.4g}."
        )
    norm, threshold = f"grad_norm/{name}", f"exit_threshold/{name}"
    tested = [(float(line[norm]), float(line[threshold]), epoch_number(line)) for line in epochs if threshold in line]
    if not tested:
        return f"{name} trained to the end: no epoch of it was tested."
    if held := [f"{epoch_number(line)}" for line in epochs if f"exit_held/{name}" in line]:
        return (
            f"{name} trained to the end: in epoch {', '.join(held)} its norm was high enough, but the loss still fell."
        )
    value, needed, epoch = max(tested, key=lambda one: one[0] / one[1] if one[1] else 0.0)
    return (
        f"{name} trained to the end: it was nearest to an exit in epoch {epoch}, with a gradient norm of {value:.4g}; "
        f"exiting needed more than {needed:.4g}."
    )


def _validation(metrics: Lines) -> str:
    lines = [line for line in metrics if line["kind"] == "valid"]
    keys = list(dict.fromkeys(key for line in lines for key in line if key.startswith("accuracy")))
    tied = any(line.get("ties") for line in lines)
    header = ["epoch", *(key.partition("/")[2] or "all" for key in keys), *(["ties"] if tied else [])]
    rows = []
    for line in lines:
        accuracies = [f"{float(line[key]):.1%}" if key in line else "" for key in keys]
        rows.append([f"{epoch_number(line)}", *accuracies, *([str(line.get("ties", ""))] if tied else [])])
    note = "A tie is a question whose best choices have equal scores; it counts as a draw among them."
    return table_block([header, *rows]) + (paragraphs(note) if tied else "")


def _settings(settings: Mapping[str, object]) -> str:
    defaults = json.loads(TrainSettings().model_dump_json())
    rows = [["setting", "value", "default"]]
    for name, value in settings.items():
        default = defaults.get(name)
        rows.append([name, json.dumps(value), "" if value == default else json.dumps(default)])
    return paragraphs("The last column is filled where a value is not the default.") + table_block(rows, text=True)
