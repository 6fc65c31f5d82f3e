"""One choice, several values, several seeds: a small model trained for each (CREMA Tables 7, 8, 17 and 19 to 22).

Everything but the choice is equal between rows: data, order of the data, initial weights where shapes allow it, number
of epochs. Frozen encoders run once for the whole sweep, because all cells share one folder of features.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from crema_analysis.asking import Data, chosen_settings, read_records
from crema_analysis.axes import Value, check_values, find_axis, requests_of, value_label, with_value
from crema_analysis.cells import CellStore, Measured, TrainedTable, train_cell
from crema_core.api.build import build
from crema_core.api.requests import ModalityRequest
from crema_core.common.progress import StatusLine
from crema_core.data.data_file import Record
from crema_core.data.unusable import OnError
from crema_core.errors import DataFileError, OptionsError
from crema_core.evaluation.predictions import records_digest
from crema_core.evaluation.settings import EvaluationSettings
from crema_core.model.settings import ModelSettings
from crema_core.train.settings import train_settings


def sweep(
    train: Data,
    test: Data,
    *,
    modalities: Sequence[ModalityRequest],
    over: str,
    values: Sequence[Value] | None = None,
    seeds: Sequence[int] = (0, 1, 2),
    out: str | os.PathLike[str],
    model: ModelSettings | None = None,
    settings: Mapping[str, Any] | None = None,
    evaluation: EvaluationSettings | None = None,
    status: StatusLine | None = None,
) -> TrainedTable:
    """Train and evaluate one model for each value and seed.

    Finished cells are kept in `out`, and the same call continues where it was interrupted, within a training from its
    last checkpoint. More values and seeds may be asked for later.

    Args:
        train: training data, a data file or records.
        test: questions that are asked, in the same forms.
        modalities: modalities, as for `crema_core.build`.
        over: the choice, a key of `crema_analysis.axes.AXES`.
        values: of the choice, at least one; None: those of `AXES`, or every modality for "major".
        seeds: of the model's new parameters and of training.
        out: folder of the table, see `crema_analysis.cells`.
        model: what else `crema_core.build` is given; the seeds are those of `seeds`.
        settings: of training, see `crema_core.train.settings`; "cache" is `out/features` unless given.
        evaluation: how the questions are asked and judged.
        status: where progress is shown.

    Raises:
        OptionsError: for an unknown choice or a value it cannot have; nothing is trained then.
        BuildError: for modalities that cannot be built.
        DataFileError: for unusable data.
        CheckpointError: when `out` holds another table.

    Example:
        >>> sweep("train.jsonl", "test.jsonl", modalities=["video", "audio"], over="fusion",
        ...       out="runs/fusions").rows[0].mean()    # doctest: +SKIP
    """
    axis = find_axis(over)
    base, model = dict(settings or {}), model or ModelSettings()
    own = ("modalities", "shuffle", "measures", "out", "resume")  # what the table itself chooses
    evaluation = chosen_settings(evaluation, {}, own=own, title="sweep")
    requests = requests_of(modalities, model)
    names = [request.spec.name for request in requests]
    chosen = tuple(values) if values is not None else axis.values or tuple(names)
    check_values(axis, chosen, modalities, model, base)
    _require_seeds(seeds)
    chosen_of_all = train_settings(None, {key: base[key] for key in ("on_error", "max_skipped") if key in base})
    errors: dict[str, Any] = {"on_error": chosen_of_all.on_error, "max_skipped": chosen_of_all.max_skipped}
    evaluation = evaluation.model_copy(update=errors)
    records = {"train": _read(train, names, **errors), "test": _read(test, names, **errors)}
    folder = Path(out)
    identity = {
        "over": axis.name,
        "modalities": [request.record() for request in requests],
        "build": model.model_dump(mode="json", exclude={"seed"}),
        "settings": base,
        "max_new_tokens": evaluation.max_new_tokens,
        **evaluation.model_dump(mode="json", exclude={"batch_size", "max_new_tokens"}, exclude_defaults=True),
        **{name: records_digest(own) for name, own in records.items()},
    }
    store = CellStore(folder, identity)
    base = {"cache": str((folder / "features").absolute()), **base}
    by_label = {value_label(value): value for value in chosen}

    def make(label: str, seed: int, place: Path) -> Measured:
        built, trained = with_value(axis, by_label[label], model, base)
        if status is not None:
            status.note(f"{axis.name} {label}, seed {seed}")
        return train_cell(
            lambda: build(modalities, built, seed=seed),
            records["train"],
            records["test"],
            folder=place,
            settings={**trained, "seed": seed},
            evaluation=evaluation,
            status=status,
        )

    rows = store.fill(by_label, seeds, make)
    compared = f"{axis.source} of the CREMA paper compares" if axis.source else "no table of the CREMA paper compares"
    note = (
        f"Accuracy in per cent on {len(records['test']):,} questions, mean ± standard deviation over seeds; {compared} "
        "the same choice."
    )
    return TrainedTable(axis.name, rows, (note,))


def _require_seeds(seeds: Sequence[int]) -> None:
    if not seeds or len(set(seeds)) < len(seeds) or min(seeds) < 0:
        raise OptionsError(
            f"seeds is {list(seeds)}. Accepted: one or more different whole numbers from 0. Write --seeds 3 for 0, 1 "
            "and 2."
        )


def _read(data: Data, names: Sequence[str], *, on_error: OnError, max_skipped: float) -> list[Record]:
    records = read_records(data, names, on_error=on_error, max_skipped=max_skipped)
    if not records:
        raise DataFileError(
            "A sweep needs samples to train on and to ask about, and there are none. Give some of each."
        )
    return records
