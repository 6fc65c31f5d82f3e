"""What a run writes about itself while it trains: metrics file, trackers and the status line.

`metrics.jsonl` has one flat JSON object of numbers per line. With several processes each keeps the same sums; the main
one writes.

Kinds of lines (`kind`): `step`, `epoch`, `valid` (an evaluation), `exit`, what hooks asked for, `lr_factor` and `stop`,
of a run that was continued with other settings `setting`, and with `on_error="skip"` first of all `skipped`, the
number of samples that were left out, by data. Values are plain numbers and texts, never tensors, so nothing keeps a
graph alive. `epoch` counts from 0 there, and from 1 in the status line, in messages and in reports.
"""

from __future__ import annotations

import json
import math
import time
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from crema_core.common.progress import StatusLine, describe_duration
from crema_core.common.reading import ABSENT, obstacle, parse_json, read_text
from crema_core.common.writing import writing
from crema_core.errors import CheckpointError, ReadError, first_line
from crema_core.plugins.control import RunChange
from crema_core.train.distributed import Distributed
from crema_core.train.early_exit import Exit
from crema_core.train.optim import Position
from crema_core.train.settings import TrainSettings
from crema_core.train.steps import StepResult

METRICS = "metrics.jsonl"
SKIPPED_LINE = "skipped"
"""Kind of the line that is written before the first update."""

Value = float | int | str


class MetricsFile:
    """Appends to the metrics file at `path`, which the first line creates."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def write(self, kind: str, values: Mapping[str, Value]) -> None:
        """Append one line, as soon as it is known; names of modalities go into the keys of `values`: `loss/audio`."""
        for key, value in values.items():
            assert isinstance(value, float | int | str), f"{key} is {type(value).__name__}, not a number or a text"
        line = {"kind": kind} | {key: _finite(value) for key, value in values.items()}
        with writing(self.path), self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")

    @property
    def num_bytes(self) -> int:
        """Size of the file; a checkpoint records it."""
        return self.path.stat().st_size if self.path.exists() else 0

    def truncate(self, num_bytes: int) -> None:
        """Drop what was written after a checkpoint: those updates will be trained, and written, again."""
        if self.num_bytes > num_bytes:
            with writing(self.path), self.path.open("r+b") as file:
                file.truncate(num_bytes)


def read_metrics(path: Path) -> list[dict[str, Value]]:
    """Return the lines of a metrics file; a last line cut off by a crash is left out."""
    if obstacle(path) == ABSENT:
        return []
    found: list[dict[str, Value]] = []
    try:
        lines = read_text(path, most=None).split("\n")
        for number, line in enumerate(lines[:-1], start=1):  # what follows the last line break is empty or cut off
            values = parse_json(line) if line else None
            if line and not (isinstance(values, dict) and isinstance(values.get("kind"), str)):
                raise CheckpointError(_not_metrics(path, f"line {number} holds no object with a kind"))
            if isinstance(values, dict):
                found.append(values)
    except ReadError as error:
        raise CheckpointError(_not_metrics(path, first_line(error))) from error
    return found


def _not_metrics(path: Path, reason: str) -> str:
    return (
        f"The metrics '{path}' cannot be read: {reason}. A line is a JSON object as a run writes it. Correct or remove "
        "what is damaged. Nothing was changed."
    )


def _finite(value: Value) -> Value:
    # JSON has no infinity and no NaN; a reader in another language must not stumble over them.
    return value if not isinstance(value, float) or math.isfinite(value) else str(value)


class MetricLogger:
    """Numbers of a run, as they come.

    Args:
        folder: the run directory.
        settings: of the run.
        num_steps: updates of the whole run, if no modality exits.
        distributed: hands numbers to trackers.
        status: where people look.
    """

    def __init__(
        self, folder: Path, settings: TrainSettings, *, num_steps: int, distributed: Distributed, status: StatusLine
    ) -> None:
        self.metrics = MetricsFile(folder / METRICS)
        self.settings, self.num_steps, self.distributed, self.status = settings, num_steps, distributed, status
        self._losses: defaultdict[str, list[float]] = defaultdict(list)
        self._step_seconds: defaultdict[str, float] = defaultdict(float)
        self._started = time.monotonic()
        self._num_updates = 0
        self._num_samples = 0

    def update(self, result: StepResult, at: Position, *, lr: float) -> None:
        """Note one update.

        Args:
            result: its numbers; empty when no trained modality was in the minibatch.
            at: the position after it.
            lr: the learning rate it used.
        """
        self._num_updates += 1
        self._num_samples += result.num_samples
        if not result.losses:
            return
        for name, loss in result.losses.items():
            self._losses[name].append(loss)
            self._step_seconds[name] += result.seconds.get(name, 0.0)
        seconds = time.monotonic() - self._started
        speed = self._num_samples / seconds
        loss = _mean(result.losses.values())
        if at.step % self.settings.log_every == 0 or at.step == 1:
            values = {"loss": loss, "lr": lr, "samples_per_s": round(speed, 3)}
            values |= {f"loss/{name}": value for name, value in result.losses.items()}
            values |= {f"grad_norm/{name}": value for name, value in result.gradient_norms.items()}
            self._write("step", at, values)
            self.distributed.accelerator.log(dict(values), step=at.step)
        norms = " ".join(f"{name} {norm:.3g}" for name, norm in result.gradient_norms.items())
        left = (self.num_steps - at.step) * seconds / self._num_updates
        self.status.show(
            f"epoch {at.epoch + 1}/{self.settings.epochs}  step {at.step:,}/{self.num_steps:,}  loss {loss:.4f}  "
            f"grad {norms}  {speed:.1f} samples/s  {describe_duration(left)} left"
        )

    def skipped(self, at: Position, counts: Mapping[str, int]) -> None:
        """Note how many samples of "data" and "eval_data" were left out."""
        self._write(SKIPPED_LINE, at, counts)

    def epoch(
        self,
        at: Position,
        *,
        norms: Mapping[str, float],
        thresholds: Mapping[str, float],
        held: Sequence[str],
        exits: Sequence[Exit],
    ) -> None:
        """Note the end of an epoch.

        Args:
            at: the position after its last update.
            norms: the epoch's gradient norm of every modality that was updated in it.
            thresholds: what they were compared with, where early exit tested them.
            held: modalities above it that stay because their loss still falls.
            exits: modalities that exit now.
        """
        values = {f"loss/{name}": _mean(losses) for name, losses in self._losses.items()}
        if values:
            values["loss"] = _mean(values.values())
        values |= {f"sub_steps/{name}": len(losses) for name, losses in self._losses.items()}
        values |= {f"seconds/{name}": round(seconds, 3) for name, seconds in self._step_seconds.items()}
        values |= {f"exit_threshold/{name}": threshold for name, threshold in thresholds.items()}
        values |= {f"exit_held/{name}": 1 for name in held}
        self._write("epoch", at, values | {f"grad_norm/{name}": norm for name, norm in norms.items()})
        for found in exits:
            self.status.note(str(found))
            facts: dict[str, Value] = {"value": found.value, "mean": found.mean, "num_epochs": found.num_epochs}
            facts["tau"] = found.tau
            self._write("exit", at, {"modality": found.modality} | facts)
        self._losses.clear()
        self._step_seconds.clear()

    def evaluation(self, at: Position, values: Mapping[str, float]) -> None:
        """Note an evaluation; `values` has "accuracy", "accuracy/<question type>" and, of multiple choice, "ties"."""
        self._write("valid", at, values)
        self.distributed.accelerator.log(dict(values), step=at.step)
        ties = f" ({values['ties']:,} ties, each counted as a draw)" if values.get("ties") else ""
        self.status.note(f"epoch {at.epoch + 1}: validation accuracy {values['accuracy']:.1%}{ties}")

    def hook_change(self, change: RunChange, at: Position, *, lr_factor: float) -> str:
        """Note what a plugin asked for, and return it as a sentence.

        Args:
            change: what it asked for.
            at: the position from which it is so.
            lr_factor: factor of the learning rate that all plugins together have set.
        """
        facts: dict[str, Value] = {"by": change.by, "reason": change.reason}
        if change.kind == "stop":
            text = f"{change.by} stopped the run after update {at.step:,}: {change.reason}"
        else:
            facts |= {"factor": change.factor, "lr_factor": lr_factor}
            after = f"after update {at.step:,}: {change.reason}"
            text = f"{change.by} multiplies the learning rate by {change.factor:g} {after}"
        self._write(change.kind, at, facts)
        self.status.note(text)
        return text

    def setting(self, at: Position, change: Mapping[str, Any]) -> None:
        """Note that a setting is another one from here on: a mapping with "setting", "was" and "now"."""
        self._write("setting", at, {key: str(change[key]) for key in ("setting", "was", "now")})

    def state_dict(self) -> dict[str, object]:
        """Return what a checkpoint needs, as JSON data."""
        return {
            "losses": dict(self._losses),
            "step_seconds": dict(self._step_seconds),
            "metrics_bytes": self.metrics.num_bytes,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take over what `state_dict` returned and drop the lines written after it."""
        num_bytes: int = state["metrics_bytes"]
        self._losses.update({name: list(values) for name, values in state["losses"].items()})
        self._step_seconds.update(state.get("step_seconds", {}))  # earlier checkpoints do not have it
        if self.distributed.processes.is_main:
            if (found := self.metrics.num_bytes) < num_bytes:
                self.status.note(
                    f"{self.metrics.path} has lost lines: {found:,} bytes are there, {num_bytes:,} were when the "
                    "checkpoint was written. The training is not affected; plots and the report begin later."
                )
            self.metrics.truncate(num_bytes)

    def _write(self, kind: str, at: Position, values: Mapping[str, Value]) -> None:
        if self.distributed.processes.is_main:
            self.metrics.write(kind, {"epoch": at.epoch, "step": at.step, **values})


def _mean(values: Iterable[float]) -> float:
    known = list(values)
    return sum(known) / len(known)
