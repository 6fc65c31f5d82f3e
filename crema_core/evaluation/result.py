"""What an evaluation found, and how single answers are summed up in it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from crema_core.data.unusable import Unusable
from crema_core.evaluation.breakdown import Row
from crema_core.evaluation.judge import CHOICES
from crema_core.evaluation.predictions import Prediction
from crema_core.evaluation.settings import FusionMode, Prompts

ALL = "all"
"""Name of the mean over all questions."""

Means = dict[str, dict[str, float]]
"""By question type in alphabetical order, then "all": mean numbers by name."""


@dataclass(frozen=True)
class EvaluationResult:
    """What an evaluation found."""

    accuracy: float  # share of right answers, 0..1; a tie counts as a draw among its options
    by_type: dict[str, float]  # the same by question type; questions without a type count in `accuracy` alone
    counts: dict[str, int]  # number of questions by type
    num_samples: int  # number of questions
    modalities: tuple[str, ...]  # modalities that were allowed to take part
    shuffled: str | None  # modality whose sources were exchanged between samples, or None
    tokens_per_answer: float  # mean number of tokens given to the language model
    duration_s: float  # wall-clock time, seconds
    scorers: tuple[str, ...] = ()  # rules by which answers were judged; "choices" for options
    table: tuple[Row, ...] = ()  # accuracies with intervals, by type, by the data set's groups of types, and over all
    measures: dict[str, float] = field(default_factory=dict)  # further measures of the data set, by name
    # name -> package and version of every metric that took part, rules for answers included
    metric_packages: dict[str, dict[str, str]] = field(default_factory=dict)
    prompts: Prompts = "model"  # whose wording was used, the model's or the data set's
    fusion: FusionMode = "model"  # "model", or "concat" when the fusion was bypassed
    # means of the further outputs of the strategy, by name of the output, then by question type and over all
    extras: dict[str, Means] = field(default_factory=dict)
    # questions whose best options have equal scores, of which the model chose none; `table` has them by type
    num_ties: int = 0
    # samples that were left out because a file of theirs cannot be used; empty unless `on_error` is "skip"
    skipped: tuple[Unusable, ...] = ()

    @property
    def metrics(self) -> dict[str, float]:
        """The accuracies by name, as hooks and journals take them, of multiple choice the number of ties, and that of
        samples left out, where there are any.
        """
        by_type = {f"accuracy/{kind}": own for kind, own in self.by_type.items()}
        ties = {"ties": self.num_ties} if CHOICES in self.scorers else {}
        skipped = {"skipped": len(self.skipped)} if self.skipped else {}
        return {"accuracy": self.accuracy} | by_type | ties | skipped | self.measures


def mean_extras(predictions: Iterable[Prediction]) -> dict[str, Means]:
    """Average every output of the strategy by question type.

    Args:
        predictions: those without an output do not count in its means.

    Returns:
        By name of the output; nothing where the strategy has none.
    """
    said: dict[str, list[tuple[str, Mapping[str, float]]]] = {}
    for own in predictions:
        for output, numbers in own.extras.items():
            said.setdefault(output, []).append((own.type, numbers))
    return {output: _means(rows) for output, rows in said.items()}


def _means(rows: Sequence[tuple[str, Mapping[str, float]]]) -> Means:
    kinds = sorted({kind for kind, _ in rows if kind})
    parts = {kind: [numbers for own, numbers in rows if own == kind] for kind in kinds}
    parts[ALL] = [numbers for _, numbers in rows]
    return {name: {key: sum(row[key] for row in own) / len(own) for key in own[0]} for name, own in parts.items()}
