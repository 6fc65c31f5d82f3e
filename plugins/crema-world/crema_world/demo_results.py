"""The demo's table: its rows, what they must show, and the same as text."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from crema_core.common.tables import table
from crema_world.questions import CHOICES_OF_TYPE, MODALITY_OF_TYPE

if TYPE_CHECKING:
    from crema_world.demo import DemoSettings


@dataclass(frozen=True)
class Row:
    """One row of the table.

    Attributes:
        label: what took part.
        kind: `reference` (nothing was run), `set` (of modalities), or `shuffled` (one modality taken from another
            clip).
        modalities: the modalities that took part; for `shuffled`, the one exchanged.
        accuracy: over all questions, in 0..1; None where only some were asked.
        by_type: accuracy by question type.
        counts: questions asked by type.
        trainable: trained parameters in use.
        num_tokens: mean number of tokens into the language model per answer.
        gflops: 10^9 operations per answer, encoders included, a multiply-add counted as two.
    """

    label: str
    kind: Literal["reference", "set", "shuffled"]
    modalities: tuple[str, ...]
    accuracy: float | None
    by_type: dict[str, float]
    counts: dict[str, int] = field(default_factory=dict)
    trainable: int | None = None
    num_tokens: float | None = None
    gflops: float | None = None


@dataclass(frozen=True)
class DemoResult:
    """What the demo found.

    Attributes:
        rows: the table.
        missed: what did not come out as it should, as sentences; empty when all did.
        seconds: wall-clock time by phase.
        exited: why modalities exited early, by modality.
        num_questions: questions about unseen clips.
        environment: versions and machine.
        settings: the demo's.
    """

    rows: tuple[Row, ...]
    missed: tuple[str, ...]
    seconds: dict[str, float]
    exited: dict[str, str]
    num_questions: int
    environment: dict[str, str]
    settings: dict[str, Any]

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON data."""
        return asdict(self)

    def __str__(self) -> str:
        verdict = "\n".join(f"MISSED: {line}" for line in self.missed) or "All checks passed."
        return f"{table(cells(self.rows))}\n\n{verdict}"


def reference_rows(majority: Mapping[str, float]) -> list[Row]:
    """Return what is to be expected without looking, and from the major modality alone.

    Args:
        majority: accuracy by type of the most frequent answer to each question's text.
    """
    chance = {kind: 1 / len(choices) for kind, choices in CHOICES_OF_TYPE.items()}
    rgb = {kind: 1.0 if MODALITY_OF_TYPE[kind] == _major() else chance[kind] for kind in chance}
    named = {"chance": chance, "question alone, majority": dict(majority), f"{_major()} can give at most": rgb}
    return [Row(label, "reference", (), _mean(values.values()), values) for label, values in named.items()]


def missed(rows: Sequence[Row], settings: DemoSettings) -> Iterator[str]:
    """Yield a sentence for everything that did not come out as it should."""
    reference = {row.label: row for row in rows if row.kind == "reference"}
    sets = [row for row in rows if row.kind == "set"]
    every, most = sets[-1].accuracy or 0.0, reference[f"{_major()} can give at most"].accuracy or 0.0
    if every < settings.least_accuracy:
        yield f"all modalities: {every:.1%} on unseen clips, at least {settings.least_accuracy:.0%} wanted."
    alone = next(row.accuracy or 0.0 for row in sets if row.modalities == (_major(),))
    low, high = most - settings.rgb_below, most + settings.rgb_above
    if not low <= alone <= high:
        yield f"{_major()} alone: {alone:.1%}, between {low:.1%} and {high:.1%} wanted (it can give {most:.1%})."
    for row in rows:
        for kind, accuracy in row.by_type.items() if row.kind == "shuffled" else ():
            chance = reference["chance"].by_type[kind]
            limit = chance + settings.deviations * math.sqrt(chance * (1 - chance) / row.counts[kind])
            if accuracy > limit:
                yield (
                    f"{row.label}: '{kind}' is answered right in {accuracy:.1%}, at most {limit:.1%} wanted (chance is "
                    f"{chance:.1%}, {row.counts[kind]} questions)."
                )


def cells(rows: Iterable[Row]) -> list[list[str]]:
    """Return the table as texts, header first; accuracies in per cent."""
    header = ["modalities", "all", *CHOICES_OF_TYPE, "trainable", "tokens", "GFLOPs"]
    return [header, *([row.label, *_accuracies(row), *_costs(row)] for row in rows)]


def _accuracies(row: Row) -> list[str]:
    values = [row.accuracy, *(row.by_type.get(kind) for kind in CHOICES_OF_TYPE)]
    return ["" if value is None else f"{100 * value:.1f}" for value in values]


def _costs(row: Row) -> list[str]:
    return [
        "" if row.trainable is None else f"{row.trainable:,}",
        "" if row.num_tokens is None else f"{row.num_tokens:.0f}",
        "" if row.gflops is None else f"{row.gflops:.3f}",
    ]


def _major() -> str:
    return next(iter(MODALITY_OF_TYPE.values()))


def _mean(values: Iterable[float]) -> float:
    known = list(values)
    return sum(known) / len(known)
