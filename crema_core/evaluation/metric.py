"""What a metric is: a rule for single free answers, a measure of a whole data set, or both under one name.

A package adds one with an entry point of the group `crema.metrics` that names a `Metric`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

Pairs = Sequence[tuple[str, Sequence[str]]]
"""Prediction and accepted answers of every open-ended question, the sample's own answer first."""


@dataclass(frozen=True)
class Metric:
    """One metric.

    Attributes:
        name: of the entry point.
        summary: what it measures, or what is right, for tables.
        is_right: the rule for a free answer, from a prediction and the accepted answers; a metric that has one can be
            the scorer of an evaluation. None: it has no verdict on single answers.
        compute: values of a data set by name, from at least one pair; None: the share of answers that are right.
        require: raises `OptionsError` where the metric cannot be computed here; called before any work.

    Example:
        >>> length = Metric("length", "mean number of words", compute=lambda pairs: {"length": 2.0})
        >>> length.is_right is None
        True
    """

    name: str
    summary: str
    is_right: Callable[[str, Sequence[str]], bool] | None = None
    compute: Callable[[Pairs], dict[str, float]] | None = None
    require: Callable[[], None] | None = None

    def values(self, pairs: Pairs) -> dict[str, float]:
        """Return the values on a data set.

        Args:
            pairs: at least one.
        """
        if self.compute is not None:
            return self.compute(pairs)
        right = self.is_right
        assert right is not None, self.name
        return {self.name: sum(right(text, answers) for text, answers in pairs) / len(pairs)}

    def __post_init__(self) -> None:
        if self.is_right is None and self.compute is None:
            raise ValueError(
                f"The metric '{self.name}' has neither is_right nor compute. A metric has one of them, or both. "
                f"Write: Metric('{self.name}', '...', compute=...)"
            )
