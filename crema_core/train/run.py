"""A run directory.

```
runs/my-run/
  config.json        settings, modalities, backbone fingerprint and data digests, which a resumed run must agree with,
                     fingerprints of features, and where data and model came from
  environment.json   Python, libraries and device
  skipped.jsonl      samples that were left out, with the reasons; with on_error="skip" alone
  metrics.jsonl      one line per logged update, epoch, evaluation and exit, see `crema_core.train.metrics`
  checkpoints/       epoch-003-step-000120/, see `crema_core.train.checkpoints`; only the two named below are kept
  last               text: name of the newest checkpoint
  best               text: name of the checkpoint with the best validation accuracy
  owner.lock, owner.json   who writes here; while somebody does, see `crema_core.common.owner`
```

Two descriptions of a run differ in two tiers: what would change a number is refused, versions of packages are
mentioned; each as `key: was -> now`. Where files and backbone lie is neither: a run may be moved.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from crema_core.api.model import CremaModel
from crema_core.common.atomic import write_text
from crema_core.common.environment import environment
from crema_core.common.owner import owned_folder, this_process
from crema_core.common.processes import Processes
from crema_core.common.reading import read_json
from crema_core.data.data_file import Record
from crema_core.data.unusable import SKIPPED, Unusable
from crema_core.errors import CheckpointError, ReadError, TrainingError, first_line
from crema_core.model.revisions import REVISIONS
from crema_core.saving.records import RunRecord, check_record
from crema_core.saving.upgrades import FEATURES
from crema_core.train.metrics import METRICS, SKIPPED_LINE, Value, read_metrics

CONFIG, ENVIRONMENT, CHECKPOINTS = "config.json", "environment.json", "checkpoints"
LAST, BEST = "last", "best"
CHANGES = "changes"
"""Key of `config.json`: settings that were changed when the run was continued."""
FORMAT = 1
_GUARDED = ("modalities", "major", "backbone", "data", "eval_data")
_FREE = ("model.backbone.source", "model.backbone.revision", "model.seed")  # the backbone is known by its contents
_COMMITS = f"model.{REVISIONS}."  # so are those of the hub, whose weights are compared
_VERSIONS = (".version", ".distribution", ".api_version", ".options_version")


@dataclass(frozen=True)
class Run:
    """A finished training run.

    Attributes:
        path: the run directory.
        metrics: the lines of `metrics.jsonl`.
        best_score: best validation accuracy in 0..1, or None without validation data.
        exited: why each modality that exited early did, by name.
        num_steps: updates done.
        stopped: which plugin ended the run before its end, when and why; None when none did.
        skipped: samples that were left out because a file of theirs cannot be used, by "data" and "eval_data"; empty
            unless `on_error` is "skip".
    """

    path: Path
    metrics: tuple[dict[str, Value], ...]
    best_score: float | None
    exited: dict[str, str]
    num_steps: int
    stopped: str | None = None
    skipped: Mapping[str, tuple[Unusable, ...]] = field(default_factory=dict)


RUNS = Path("runs")
"""Where runs are that were given no place."""


@contextmanager
def run_folder(out: str | os.PathLike[str] | None, processes: Processes) -> Iterator[Path]:
    """Yield `out`, or for None a new folder below `runs/`, which goes again when it stays empty."""
    made: list[Path] = []

    def choose() -> Path:
        if out is not None:
            return Path(out)
        is_first = not RUNS.exists()
        made.append(new_run_folder())
        made.extend([RUNS] if is_first else [])
        return made[0]

    folder = processes.from_main(choose)
    try:
        yield folder
    finally:
        for own in made:
            with suppress(OSError):  # it is not empty
                own.rmdir()


def new_run_folder() -> Path:
    """Make a folder below `runs/`, named by date and time, and return it: no other process can have the same one.

    Raises:
        TrainingError: when the folder cannot be made.
    """
    name = time.strftime("%Y%m%d-%H%M%S")
    try:
        for ending in ("", *(f"-{number}" for number in range(2, 1000))):
            with suppress(FileExistsError):
                (place := RUNS / f"{name}{ending}").mkdir(parents=True)
                return place
    except OSError as error:
        raise TrainingError(
            f"No folder for this run can be made below '{RUNS.absolute()}': {error.strerror}. A run writes its "
            "metrics and checkpoints there. Give another out=."
        ) from error
    raise TrainingError(
        f"There are 999 runs of the second {name} in '{RUNS.absolute()}'. A run needs a folder of its own. "
        "Give another out=."
    )


def refuse_used(folder: Path) -> None:
    """Raise a TrainingError when `folder` holds a run already, or is no folder: a new run cannot be written there.

    What a run leaves behind that failed before its first update is no run: the same command may be given again.
    """
    if folder.exists() and not folder.is_dir():
        raise TrainingError(f"'{folder}' is a file. A run needs a folder of its own. Give another out=.")
    if (folder / CONFIG).exists() and has_begun(folder):
        raise TrainingError(
            f"'{folder}' already holds a run. A new run needs a folder of its own. Pass resume=True to continue that "
            "run, or another out=."
        )


def has_begun(folder: Path) -> bool:
    """Return whether the run in a folder has made an update, or has saved anything."""
    saved = (folder / LAST).exists() or any((folder / CHECKPOINTS).glob("*"))
    return saved or any(line["kind"] != SKIPPED_LINE for line in read_metrics(folder / METRICS))


@contextmanager
def only_writer(folder: Path, processes: Processes, say: Callable[[str], None]) -> Iterator[None]:
    """Let no other launch write into a run directory inside the block; see `crema_core.common.owner`.

    Args:
        folder: made when it is not there, and removed again when nothing was written.
        processes: of this launch; the main one holds the lock for all.
        say: told in the main process when what a crash left is taken over.

    Raises:
        TrainingError: in all processes, when another launch does.
    """
    members = processes.gather(this_process())
    with ExitStack() as stack:
        owned = owned_folder(
            folder, work="a training", advice="give another out=", say=say, members=members, error=TrainingError
        )
        processes.from_main(lambda: stack.enter_context(owned))
        yield


def describe_run(
    model: CremaModel,
    settings: Mapping[str, object],
    *,
    records: Sequence[Record],
    eval_data: Sequence[Record],
    inputs: Mapping[str, str | None],
    features: Mapping[str, Any],
) -> dict[str, Any]:
    """Return the contents of `config.json`.

    Args:
        model: to be trained.
        settings: of the run, JSON data.
        records, eval_data: training and validation samples.
        inputs: data files they were read from, by argument name; None for records given as such.
        features: fingerprints of the features of all modalities, by name.
    """
    return {
        "format": FORMAT,
        "settings": dict(settings),
        "modalities": list(model.names),
        "major": model.major,
        "backbone": model.frozen_fingerprint(),
        "data": data_digest(records),
        "eval_data": data_digest(eval_data) if eval_data else None,
        "inputs": dict(inputs),
        "model": model.config,
        FEATURES: dict(features),
    }


def data_digest(records: Sequence[Record]) -> str:
    """Return a short text that changes with samples, their order and their modalities, but not with their folder."""
    digest = hashlib.sha256()
    for record in records:
        line = [record.id, record.question, record.answer, record.choices, sorted(record.sources)]
        digest.update(json.dumps(line).encode())
    return f"{len(records)} samples, {digest.hexdigest()[:16]}"


def read_config(folder: Path, *, of_pairs: bool = False) -> dict[str, Any]:
    """Read `config.json` of a run to continue.

    Args:
        folder: the run.
        of_pairs: whether it is a pretraining, whose file has other keys.

    Raises:
        CheckpointError: when the folder holds no run, or one of another format.
    """
    try:
        config = read_json(folder / CONFIG)
    except ReadError as error:
        raise CheckpointError(
            f"'{folder}' holds no run to continue ({CONFIG}: {first_line(error)}). A run directory is what "
            "fit(out=...) wrote. Check the path, or pass resume=False to start anew. Nothing was changed."
        ) from error
    if not isinstance(config, dict) or config.get("format") != FORMAT:
        raise CheckpointError(
            f"The run in '{folder}' has another format than {FORMAT}. Only runs of this format can be continued. "
            "Start a new run with another out=. Nothing was changed."
        )
    if not of_pairs:
        check_record(folder / CONFIG, config, RunRecord, writer="fit")
    return config


def write_start(folder: Path, config: Mapping[str, Any]) -> None:
    """Write `environment.json` and `config.json`, which makes the folder a run.

    What a run has left there that failed before its first update is removed.

    Raises:
        TrainingError: when the folder cannot be written.
    """
    try:
        for leftover in (METRICS, SKIPPED):
            (folder / leftover).unlink(missing_ok=True)
        write_text(folder / ENVIRONMENT, json.dumps(environment(), indent=2) + "\n")
        write_text(folder / CONFIG, json.dumps(config, indent=2) + "\n")
    except OSError as error:
        raise TrainingError(
            f"The run directory '{folder}' cannot be written: {error.strerror}. A run writes its metrics and "
            "checkpoints there. Give another out=."
        ) from error


def refuse_changes(saved: Mapping[str, Any], now: Mapping[str, Any], *, resumable: frozenset[str]) -> list[str]:
    """Raise when a run to continue would give other numbers than it did.

    Args:
        saved: contents of its `config.json`.
        now: what `config.json` would be now.
        resumable: settings that may differ.

    Returns:
        A line `key: was -> now` for each changed version of a modality's package.

    Raises:
        CheckpointError: with such a line for everything that must not change and did.
    """
    lines = [f"{key}: {saved.get(key)} -> {now[key]}" for key in _GUARDED if saved.get(key) != now[key]]
    if not lines:  # with other modalities every detail of the model differs
        lines += [line for key, line in _changes(saved, now, "model") if not key.endswith(_VERSIONS)]
    lines += [line for key, line in _changes(saved, now, "settings", prefix="") if key not in resumable]
    if lines:
        raise CheckpointError(
            "This run cannot be continued, because something changed (was -> now):\n  "
            + "\n  ".join(lines)
            + "\nA continued run must agree with its config.json. Undo the change, or start a new run with another "
            "out=. Nothing was changed."
        )
    return [line for key, line in _changes(saved, now, "model") if key.endswith(_VERSIONS)]


def record_changes(
    folder: Path, settings: Mapping[str, Any], names: Collection[str], *, step: int, of_pairs: bool = False
) -> list[dict[str, Any]]:
    """Write into `config.json` which settings of a continued run are others from now on, and return all changes so far.

    Args:
        folder: the run directory.
        settings: all settings, as they are now.
        names: those that may be others.
        step: updates done before.
        of_pairs: as of `read_config`.

    Returns:
        Mappings with "step", "setting", "was" and "now", the earliest first.
    """
    config = read_config(folder, of_pairs=of_pairs)
    before, changes = config["settings"], list(config.get(CHANGES, []))
    new = [name for name in sorted(names) if before.get(name) != settings[name]]
    if new:
        changes += [{"step": step, "setting": name, "was": before.get(name), "now": settings[name]} for name in new]
        config |= {"settings": before | {name: settings[name] for name in new}, CHANGES: changes}
        write_text(folder / CONFIG, json.dumps(config, indent=2) + "\n")
    return changes


def refuse_differences(configs: Sequence[Mapping[str, Any]]) -> None:
    """Raise when the processes of one launch would train different things.

    Args:
        configs: what `config.json` would be in each process, by rank.

    Raises:
        TrainingError: in all processes, with a line `key: main process's -> other's` for every difference.
    """
    main = configs[0]
    for rank, other in enumerate(configs):
        lines = [f"{key}: {main[key]} -> {other[key]}" for key in _GUARDED if main[key] != other[key]]
        for part, prefix in (("model", "model."), ("settings", "")):
            lines += [line for _, line in _changes(main, other, part, prefix=prefix)]
        if lines:
            raise TrainingError(
                f"Process {rank} would train something else than process 0 (process 0 -> process {rank}):\n  "
                + "\n  ".join(lines)
                + "\nAll processes need the same data, settings, packages and weights. Give all machines the same "
                "files. Nothing was written."
            )


def _changes(
    was: Mapping[str, Any], now: Mapping[str, Any], part: str, *, prefix: str = "model."
) -> Iterator[tuple[str, str]]:
    """Yield key and line `key: was -> now` of every value below `part` that differs."""
    old, new = dict(_flat(was[part], prefix)), dict(_flat(now[part], prefix))
    for key in sorted(old.keys() | new.keys()):
        if key not in _FREE and not key.startswith(_COMMITS) and old.get(key) != new.get(key):
            yield key, f"{key}: {old.get(key)} -> {new.get(key)}"


def _flat(value: Any, key: str) -> Iterator[tuple[str, Any]]:
    """Yield the leaves of nested JSON data under dotted keys; entries of a list by their name."""
    if isinstance(value, Mapping) and value:
        for name, own in value.items():
            yield from _flat(own, f"{key}{name}.")
    elif isinstance(value, list | tuple) and value and all(isinstance(own, Mapping) and "name" in own for own in value):
        for own in value:
            yield from _flat(own, f"{key}{own['name']}.")
    else:
        yield key.removesuffix("."), list(value) if isinstance(value, tuple) else value
