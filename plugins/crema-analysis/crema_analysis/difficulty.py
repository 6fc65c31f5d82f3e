"""Easy and hard questions by a reference model (CREMA Table 9): easy is what the major modality alone answers right.

Accuracy on both parts tells whether another modality helps where the major one fails, or only repeats what it can do.
"""

from __future__ import annotations

import json
import os
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from crema_analysis.asking import Cache, Data, ask, chosen_settings
from crema_core.api.model import CremaModel
from crema_core.common.atomic import write_text
from crema_core.common.progress import StatusLine
from crema_core.common.reading import parse_json, read_text
from crema_core.common.tables import table
from crema_core.data.data_file import Record, moved_line
from crema_core.errors import OptionsError
from crema_core.evaluation.run import usable_samples
from crema_core.evaluation.settings import EvaluationSettings
from crema_core.features.feature_cache import as_cache

EASY, HARD, SUMMARY = "easy.jsonl", "hard.jsonl", "split.json"


@dataclass(frozen=True)
class Difficulty:
    """Questions in two parts, each in the order of the data.

    Attributes:
        easy: what the reference model answers right.
        hard: the others.
        modalities: what the reference model was given.
    """

    easy: tuple[Record, ...]
    hard: tuple[Record, ...]
    modalities: tuple[str, ...]

    @property
    def counts(self) -> dict[str, tuple[int, int]]:
        """Easy and hard questions by type, then "all"."""
        easy, hard = (Counter(record.type for record in part) for part in (self.easy, self.hard))
        kinds = sorted(kind for kind in easy | hard if kind)
        return {kind: (easy[kind], hard[kind]) for kind in kinds} | {"all": (len(self.easy), len(self.hard))}

    def to_dict(self) -> dict[str, Any]:
        """Return the numbers as plain JSON data."""
        return {
            "modalities": list(self.modalities),
            "questions": {kind: {"easy": easy, "hard": hard} for kind, (easy, hard) in self.counts.items()},
        }

    def __str__(self) -> str:
        rows = [["questions", "easy", "hard", "share easy"]]
        rows += [
            [kind, f"{easy:,}", f"{hard:,}", f"{easy / (easy + hard):.1%}"]
            for kind, (easy, hard) in self.counts.items()
        ]
        return f"easy: answered right with {', '.join(self.modalities) or 'the question'} alone\n\n{table(rows)}"


def split_by_difficulty(
    model: CremaModel,
    data: Data,
    settings: EvaluationSettings | None = None,
    *,
    cache: Cache = None,
    status: StatusLine | None = None,
    **changes: object,
) -> Difficulty:
    """Tell easy questions from hard ones by what a reference model answers.

    Args:
        model: the reference.
        data: a data file, or records.
        settings: of the evaluation, whole; its `modalities` are what the reference is given, None: its major modality
            alone. None: the defaults.
        cache: features of this model, or the folder of a cache.
        status: where progress is shown.
        **changes: single settings, fields of `EvaluationSettings`.

    With `on_error="skip"` questions whose files cannot be used are in neither part.

    Raises:
        OptionsError: for an unknown setting, a modality the model does not have, or a rule that does not exist.
        DataFileError: for data without any question.
        CheckpointError: when `out` cannot be continued.

    Example:
        >>> split_by_difficulty(model, "test.jsonl").counts["all"]    # doctest: +SKIP
        (612, 288)
    """
    settings = chosen_settings(settings, changes, own=("measures",), title="split")
    if settings.modalities is None:
        settings = settings.model_copy(update={"modalities": (model.major,)})
    names = settings.modalities or ()
    features = as_cache(model, cache)
    samples = usable_samples(model, data, settings, names=names, cache=features, status=status)
    records = samples.usable
    settings = settings.model_copy(update={"on_error": "stop"})  # what cannot be used was found above
    asked = ask(model, records, settings, cache=features, status=status)
    pairs = list(zip(records, asked.right, strict=True))
    return Difficulty(
        easy=tuple(record for record, right in pairs if right),
        hard=tuple(record for record, right in pairs if not right),
        modalities=asked.result.modalities,
    )


def write_parts(out: Path, data: Path, found: Difficulty) -> tuple[Path, Path]:
    """Write `easy.jsonl` and `hard.jsonl`, data files like the one they are parts of, and `split.json`.

    Lines are kept whole, modalities the reference model lacks included; paths are made relative to `out`.

    Args:
        out: the folder, made where it is missing.
        data: the data file whose lines were split.
        found: the parts.

    Returns:
        the two data files.

    Raises:
        OptionsError: when a file would replace the data themselves.
    """
    refuse_own_parts(out, data)
    places = out / EASY, out / HARD
    lines = read_text(data, most=None).split("\n")
    for place, part in zip(places, (found.easy, found.hard), strict=True):
        moved = (moved_line(parse_json(lines[record.line - 1]), data.parent, out) for record in part)
        write_text(place, "".join(json.dumps(values, ensure_ascii=False) + "\n" for values in moved))
    write_text(out / SUMMARY, json.dumps(found.to_dict(), indent=2) + "\n")
    return places


def refuse_own_parts(out: Path, data: Path) -> None:
    """Raise when the parts would replace the data they are made from.

    Raises:
        OptionsError: naming the data.
    """
    # os.path: it also tells where a link in a circle leads, to itself.
    if os.path.realpath(data) in [os.path.realpath(out / name) for name in (EASY, HARD)]:
        raise OptionsError(
            f"'{data}' would be replaced by a part of itself. Parts are written as {EASY} and {HARD}. Name another "
            "folder with --out. Nothing was changed."
        )
