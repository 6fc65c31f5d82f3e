"""A run directory.

```
runs/my-run/
  config.json        settings, senses, backbone fingerprint and data digests, which a resumed run must agree with, and
                     where data and model came from
  environment.json   Python, libraries and device
  metrics.jsonl      one line per logged update, epoch, evaluation and exit, see `crema_core.train.metrics`
  checkpoints/       epoch-003-step-000120/, see `crema_core.train.checkpoints`; only the two named below are kept
  last               text: name of the newest checkpoint
  best               text: name of the checkpoint with the best validation accuracy
```
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from crema_core.api.model import CremaModel
from crema_core.common.atomic import write_text
from crema_core.common.environment import environment
from crema_core.data.manifest import Record
from crema_core.errors import CheckpointError, TrainingError
from crema_core.train.metrics import METRICS, Value, read_metrics

CONFIG, ENVIRONMENT, CHECKPOINTS = "config.json", "environment.json", "checkpoints"
LAST, BEST = "last", "best"
FORMAT = 1


@dataclass(frozen=True)
class Run:
    """A finished training run.

    Attributes:
        path: the run directory.
        metrics: the lines of `metrics.jsonl`.
        best_score: best validation accuracy in 0..1, or None without validation data.
        exited: why each sense that exited early did, by name.
        num_steps: updates done.
    """

    path: Path
    metrics: tuple[dict[str, Value], ...]
    best_score: float | None
    exited: dict[str, str]
    num_steps: int


def new_run_folder() -> Path:
    """Return an unused folder name below `runs/`, made of date and time."""
    name = time.strftime("%Y%m%d-%H%M%S")
    candidates = [Path("runs") / name, *(Path("runs") / f"{name}-{number}" for number in range(2, 1000))]
    return next(path for path in candidates if not path.exists())


def refuse_used(folder: Path) -> None:
    """Raise unless a new run may be written into `folder`.

    Raises:
        TrainingError: when it holds a run already, or is no folder.
    """
    if folder.exists() and not folder.is_dir():
        raise TrainingError(f"'{folder}' is a file. A run needs a folder of its own. Give another out=.")
    if (folder / CONFIG).exists():
        raise TrainingError(
            f"'{folder}' already holds a run. A new run needs a folder of its own. Pass resume=True to continue that "
            "run, or another out=."
        )


def describe_run(
    model: CremaModel,
    settings: Mapping[str, object],
    *,
    records: Sequence[Record],
    valid: Sequence[Record],
    inputs: Mapping[str, str | None],
) -> dict[str, Any]:
    """Return the contents of `config.json`.

    Args:
        model: to be trained.
        settings: of the run, JSON data.
        records, valid: training and validation samples.
        inputs: manifests they were read from, by argument name; None for records given as such.
    """
    return {
        "format": FORMAT,
        "settings": dict(settings),
        "senses": list(model.names),
        "major": model.major,
        "backbone": model.frozen_fingerprint(),
        "data": data_digest(records),
        "valid": data_digest(valid) if valid else None,
        "inputs": dict(inputs),
        "model": model.config,
    }


def data_digest(records: Sequence[Record]) -> str:
    """Return a short text that changes when samples, their order or their senses change, but not with their folder."""
    digest = hashlib.sha256()
    for record in records:
        line = [record.id, record.question, record.answer, record.choices, sorted(record.sources)]
        digest.update(json.dumps(line).encode())
    return f"{len(records)} samples, {digest.hexdigest()[:16]}"


def read_config(folder: Path) -> dict[str, Any]:
    """Read `config.json` of a run to continue.

    Raises:
        CheckpointError: when the folder holds no run, or one of another format.
    """
    try:
        config = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
    except (OSError, json.JSONDecodeError) as error:
        raise CheckpointError(
            f"'{folder}' holds no run to continue ({CONFIG}: {error}). A run directory is what fit(out=...) wrote. "
            "Check the path, or pass resume=False to start anew. Nothing was changed."
        ) from error
    if not isinstance(config, dict) or config.get("format") != FORMAT:
        raise CheckpointError(
            f"The run in '{folder}' has another format than {FORMAT}. Only runs of this format can be continued. "
            "Start a new run with another out=. Nothing was changed."
        )
    return config


def write_start(folder: Path, config: Mapping[str, Any]) -> None:
    """Write `environment.json` and `config.json`, which makes the folder a run.

    Raises:
        TrainingError: when the folder cannot be written.
    """
    try:
        write_text(folder / ENVIRONMENT, json.dumps(environment(), indent=2) + "\n")
        write_text(folder / CONFIG, json.dumps(config, indent=2) + "\n")
    except OSError as error:
        raise TrainingError(
            f"The run directory '{folder}' cannot be written: {error.strerror}. A run writes its metrics and "
            "checkpoints there. Give another out=."
        ) from error


def finished_run(folder: Path, *, best_score: float | None, exited: Mapping[str, str], num_steps: int) -> Run:
    """Return a run with the metrics written so far."""
    return Run(folder, tuple(read_metrics(folder / METRICS)), best_score, dict(exited), num_steps)
