"""One choice, several values, several seeds: a small model trained for each (CREMA Tables 7, 8, 17 and 19 to 22).

Everything but the choice is equal between rows: data, order of the data, initial weights where shapes allow it, number
of epochs. Frozen encoders run once for the whole sweep, because all cells share one folder of features.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from crema_core.data.manifest import Record, read_manifest
from crema_core.errors import ManifestError, OptionsError, did_you_mean
from crema_core.evaluation.cells import CellStore, Measured, TrainedTable
from crema_core.evaluation.predictions import records_digest
from crema_core.evaluation.train_cell import train_cell
from crema_core.fusion import FUSIONS
from crema_core.model.build import build
from crema_core.model.requests import ModalityRequest, choose_major, resolve_requests
from crema_core.plugins.spec import MMQASpec, parse_settings
from crema_core.train.progress import StatusLine
from crema_core.train.settings import train_settings

Place = Literal["build", "mmqa", "training"]
Value = str | int | float | None


@dataclass(frozen=True)
class Axis:
    """A choice that can be swept.

    Attributes:
        name: as in `over`.
        place: whose argument it is: `build`'s, its adapter sizes', or `fit`'s.
        key: the argument.
        source: the paper's table.
        values: tried when none are named; empty: the senses themselves.
    """

    name: str
    place: Place
    key: str
    source: str
    values: tuple[Value, ...]


AXES = {
    axis.name: axis
    for axis in (
        Axis("fusion", "build", "fusion", "Table 8", tuple(FUSIONS)),
        Axis("major", "build", "major", "Table 20", ()),
        Axis("num_queries", "mmqa", "num_queries", "Table 22", (8, 16, 32, 64)),
        Axis("lora_rank", "mmqa", "lora_rank", "Table 19", (32, 64, 128)),
        Axis("connector", "mmqa", "projection", "Table 21", ("auto", "interpolate")),
        Axis("mode", "training", "mode", "Table 17", ("sequential", "joint")),
        Axis("early_exit", "training", "early_exit", "Table 7", (None, 1.4, 1.8)),
    )
}


def sweep(
    train: str | os.PathLike[str] | Sequence[Record],
    test: str | os.PathLike[str] | Sequence[Record],
    *,
    modalities: Sequence[ModalityRequest],
    over: str,
    values: Sequence[Value] | None = None,
    seeds: Sequence[int] = (0, 1, 2),
    out: str | os.PathLike[str],
    build_options: Mapping[str, Any] | None = None,
    settings: Mapping[str, Any] | None = None,
    batch_size: int = 32,
    max_new_tokens: int = 10,
    status: StatusLine | None = None,
) -> TrainedTable:
    """Train and evaluate one model for each value and seed.

    Finished cells are kept in `out`, and the same call goes on where it was interrupted, within a training from its
    last checkpoint. More values and seeds may be asked for later.

    Args:
        train: training data, a manifest or records.
        test: questions that are asked, in the same forms.
        modalities: senses, as for `crema_core.build`.
        over: the choice, a key of `AXES`.
        values: of the choice, at least one; None: those of `AXES`, or every sense for "major".
        seeds: of the model's new parameters and of training.
        out: folder of the table, see `crema_core.evaluation.cells`.
        build_options: further arguments of `crema_core.build`.
        settings: of training, see `crema_core.train.settings`; "cache" is `out/features` unless given.
        batch_size: questions per pass of the evaluation.
        max_new_tokens: longest open-ended answer.
        status: where progress is shown.

    Raises:
        OptionsError: for an unknown choice or a value it cannot have; nothing is trained then.
        BuildError: for senses that cannot be built.
        ManifestError: for unusable data.
        CheckpointError: when `out` holds another table.

    Example:
        >>> sweep("train.jsonl", "test.jsonl", modalities=["video", "audio"], over="fusion",
        ...       out="runs/fusions").rows[0].mean()    # doctest: +SKIP
    """
    axis = find_axis(over)
    base, options = dict(settings or {}), dict(build_options or {})
    names = [request.spec.name for request in resolve_requests(modalities, options.get("mmqa") or {})]
    chosen = tuple(values) if values is not None else axis.values or tuple(names)
    check_values(axis, chosen, modalities, options, base)
    _require_seeds(seeds)
    records = {"train": _read(train, names), "test": _read(test, names)}
    folder = Path(out)
    identity = {
        "over": axis.name,
        "modalities": [request.record() for request in resolve_requests(modalities, options.get("mmqa") or {})],
        "build": {key: str(value) if key == "backbone" else value for key, value in options.items()},
        "settings": base,
        "max_new_tokens": max_new_tokens,
        **{name: records_digest(own) for name, own in records.items()},
    }
    store = CellStore(folder, identity)
    base = {"cache": str((folder / "features").absolute()), **base}
    by_label = {value_label(value): value for value in chosen}

    def make(label: str, seed: int, place: Path) -> Measured:
        built, trained = _with(axis, by_label[label], options, base)
        if status is not None:
            status.note(f"{axis.name} {label}, seed {seed}")
        return train_cell(
            lambda: build(modalities, **{**built, "seed": seed}),
            records["train"],
            records["test"],
            folder=place,
            settings={**trained, "seed": seed},
            batch_size=batch_size,
            max_new_tokens=max_new_tokens,
            status=status,
        )

    rows = store.fill(by_label, seeds, make)
    note = (
        f"Accuracy in per cent on {len(records['test']):,} questions, mean ± standard deviation over seeds; "
        f"{axis.source} of the CREMA paper compares the same choice."
    )
    return TrainedTable(axis.name, rows, (note,))


def find_axis(name: str) -> Axis:
    """Return a choice by name.

    Raises:
        OptionsError: for an unknown name.
    """
    if name not in AXES:
        raise OptionsError(
            f"'{name}' is no choice to sweep. Choices: {', '.join(AXES)}.{did_you_mean(name, AXES)} Name one of these."
        )
    return AXES[name]


def check_values(
    axis: Axis,
    values: Sequence[Value],
    modalities: Sequence[ModalityRequest],
    options: Mapping[str, Any],
    settings: Mapping[str, Any],
) -> None:
    """Raise unless every value can be built and trained; nothing heavy is done.

    Raises:
        OptionsError: for a value that cannot be, one named twice, or a sense with a value of its own.
        BuildError: for senses that cannot be built.
    """
    labels = [value_label(value) for value in values]
    twice = next((label for label in labels if labels.count(label) > 1), None)
    if not labels or twice is not None:
        given = f"'{twice}' is listed twice" if labels else "No value is named"
        raise OptionsError(
            f"{given} for {axis.name}. A sweep has one row for each value. Write every value once, or leave the values "
            "out for the default ones."
        )
    for item in modalities:
        if axis.place == "mmqa" and isinstance(item, Mapping) and axis.key in item.get("mmqa", {}):
            raise OptionsError(
                f"'{item['name']}' has a {axis.key} of its own, which a sweep over {axis.name} would not change. "
                "Accepted: senses that leave it open. Leave it out for this sense, or sweep something else."
            )
    for value in values:
        built, trained = _with(axis, value, options, settings)
        train_settings(None, trained)
        requests = resolve_requests(modalities, built.get("mmqa") or {})
        choose_major(requests, built.get("major"))
        if axis.place == "mmqa":
            parse_settings(MMQASpec, built["mmqa"], title="mmqa")
        fusion = built.get("fusion", "self_gated")
        name = fusion["name"] if isinstance(fusion, Mapping) else fusion
        if name not in FUSIONS:
            raise OptionsError(
                f"'{name}' is not a fusion. Accepted: {', '.join(FUSIONS)}.{did_you_mean(str(name), FUSIONS)} Name one "
                "or more of these."
            )


def value_label(value: Value) -> str:
    """Return a value as rows and files call it."""
    return "none" if value is None else str(value)


def _with(
    axis: Axis, value: Value, options: Mapping[str, Any], settings: Mapping[str, Any]
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the arguments of `build` and of `fit` for one value."""
    built, trained = dict(options), dict(settings)
    if axis.place == "build":
        built[axis.key] = value
    elif axis.place == "mmqa":
        built["mmqa"] = {**(options.get("mmqa") or {}), axis.key: value}
    else:
        trained[axis.key] = value
    return built, trained


def _require_seeds(seeds: Sequence[int]) -> None:
    if not seeds or len(set(seeds)) < len(seeds) or min(seeds) < 0:
        raise OptionsError(
            f"seeds is {list(seeds)}. Accepted: one or more different whole numbers from 0. Write --seeds 3 for 0, 1 "
            "and 2."
        )


def _read(data: str | os.PathLike[str] | Sequence[Record], names: Sequence[str]) -> list[Record]:
    records = read_manifest(data, modalities=names) if isinstance(data, str | os.PathLike) else list(data)
    if not records:
        raise ManifestError(
            "A sweep needs samples to train on and to ask about, and there are none. Give some of each."
        )
    return records
