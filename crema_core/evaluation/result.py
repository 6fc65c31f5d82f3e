"""What an evaluation found."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from crema_core.evaluation.breakdown import Row
from crema_core.evaluation.extras import Means

Prompts = Literal["model", "dataset"]
FusionMode = Literal["model", "concat"]


@dataclass(frozen=True)
class EvaluationResult:
    """What an evaluation found.

    Attributes:
        accuracy: share of right answers, 0..1.
        by_type: the same by question type.
        counts: number of questions by type.
        num_samples: number of questions.
        senses: senses that were allowed to take part.
        shuffled: sense whose sources were exchanged between samples, or None.
        tokens_per_answer: mean number of tokens given to the language model.
        duration_s: wall-clock time, seconds.
        scorers: rules by which answers were judged; "choices" for options.
        table: accuracies with intervals, by type, by the data set's groups of types, and over all.
        measures: further measures of the data set, by name.
        metric_packages: name -> package and version of every metric that took part, rules for answers included.
        prompts: whose wording was used, the model's or the data set's.
        fusion: "model", or "concat" when the fusion was bypassed.
        extras: means of what the strategy says beside answers, by name of the output, then by question type and over
            all.
    """

    accuracy: float
    by_type: dict[str, float]
    counts: dict[str, int]
    num_samples: int
    senses: tuple[str, ...]
    shuffled: str | None
    tokens_per_answer: float
    duration_s: float
    scorers: tuple[str, ...] = ()
    table: tuple[Row, ...] = ()
    measures: dict[str, float] = field(default_factory=dict)
    metric_packages: dict[str, dict[str, str]] = field(default_factory=dict)
    prompts: Prompts = "model"
    fusion: FusionMode = "model"
    extras: dict[str, Means] = field(default_factory=dict)

    @property
    def metrics(self) -> dict[str, float]:
        """The accuracies by name, as hooks and journals take them."""
        by_type = {f"accuracy/{kind}": own for kind, own in self.by_type.items()}
        return {"accuracy": self.accuracy} | by_type | self.measures
