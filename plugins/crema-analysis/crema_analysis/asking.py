"""Asking one model all questions, and which of them it answers right: what every comparison is made of."""

from __future__ import annotations

import os
import tempfile
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from crema_core.api.model import CremaModel
from crema_core.common.progress import StatusLine
from crema_core.data.data_file import Record, read_data_file
from crema_core.data.unusable import MAX_SKIPPED, OnError
from crema_core.errors import OptionsError
from crema_core.evaluation.predictions import Prediction, read_predictions
from crema_core.evaluation.result import EvaluationResult
from crema_core.evaluation.run import evaluate
from crema_core.evaluation.settings import EvaluationSettings
from crema_core.features.feature_cache import FeatureCache
from crema_core.plugins.spec import with_changes

Data = str | os.PathLike[str] | Sequence[Record]
"""A data file, or records."""
Cache = FeatureCache | str | os.PathLike[str] | None
"""Features of a model, or the folder of a cache."""


class Asked(NamedTuple):
    """What came of asking.

    Attributes:
        result: of the evaluation.
        right: whether each question was answered right, in the order of the questions; a tie was not.
        credit: what each counts in an accuracy, see `Prediction.credit`.
    """

    result: EvaluationResult
    right: list[bool]
    credit: list[float]


def read_records(
    data: Data, names: Sequence[str], *, on_error: OnError = "stop", max_skipped: float = MAX_SKIPPED
) -> list[Record]:
    """Return the samples of a data set with their sources of the modalities `names`."""
    if isinstance(data, str | os.PathLike):
        return read_data_file(data, modalities=names, on_error=on_error, max_skipped=max_skipped)
    return list(data)


def chosen_settings(
    settings: EvaluationSettings | None, changes: Mapping[str, object], *, own: Sequence[str], title: str
) -> EvaluationSettings:
    """Return the settings of an evaluation with single values replaced.

    Args:
        settings: whole; None: the defaults.
        changes: fields by name.
        own: fields that the comparison chooses itself.
        title: name of the comparison.

    Raises:
        OptionsError: for an unknown name, a wrong value, or a field of `own`.
    """
    found = with_changes(settings or EvaluationSettings(), changes, title=title)
    for name in own:
        if name in found.model_fields_set:
            raise OptionsError(
                f"{title}: '{name}' came, which {title} chooses itself. Accepted: "
                f"{', '.join(key for key in EvaluationSettings.model_fields if key not in own)}. Leave {name} out."
            )
    return found


def ask(
    model: CremaModel,
    records: Sequence[Record],
    settings: EvaluationSettings,
    *,
    cache: Cache = None,
    status: StatusLine | None = None,
) -> Asked:
    """Ask all questions; the answers are kept where the settings name a file."""
    with tempfile.TemporaryDirectory() as scratch:
        path = settings.out or Path(scratch) / "answers.jsonl"
        own = settings.model_copy(update={"out": path, "measures": ()})
        result = evaluate(model, records, own, cache=cache, status=status, announce=False)
        found = _by_record(records, path)
        return Asked(result, [own.correct for own in found], [own.credit for own in found])


def _by_record(records: Sequence[Record], path: Path) -> list[Prediction]:
    """Return the answer to each question, in their order; several may have one id."""
    found: defaultdict[tuple[str, bool], list[Prediction]] = defaultdict(list)
    for prediction in read_predictions(path):
        found[prediction.id, prediction.chosen].append(prediction)
    return [found[record.id, bool(record.choices)].pop(0) for record in records]
