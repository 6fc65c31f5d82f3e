"""What a metric is: a rule for single free answers, a measure of a whole data set, or both under one name.

A package adds one with an entry point of the group `crema.metrics` that names a `Metric`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from crema_core.errors import OptionsError
from crema_core.plugins import registry

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


def find_scorer(name: str) -> Metric:
    """Return the rule for free answers of `name` or `distribution:name`, a metric with `is_right`.

    Raises:
        OptionsError: for a name nothing provides, a metric without a verdict on single answers, or one that cannot be
            computed here.
        PluginError: when its package is switched off, broken, or not the only one of this name.
    """
    found = find_metric(name)
    if found.is_right is None:
        raise OptionsError(
            f"'{name}' ({found.summary}) measures a data set as a whole and cannot judge single answers. Accepted as "
            "scorer: a metric with a rule for them, such as 'exact'. Name it among the measures instead."
        )
    require_measures([name])
    return found


def find_metric(name: str) -> Metric:
    """Return a metric by `name` or `distribution:name`.

    Raises:
        OptionsError: for a name nothing provides; it names what is near or what to install.
        PluginError: when its package is switched off, broken, or not the only one of this name.
    """
    found: Metric = registry.load("metric", name)
    return found


def require_measures(names: Iterable[str]) -> None:
    """Check that measures are known and can be computed, before any work.

    Raises:
        OptionsError: for an unknown name, or an absent package.
        PluginError: as `find_metric`.
    """
    for name in names:
        metric = find_metric(name)
        if metric.require is not None:
            metric.require()


def measure(names: Iterable[str], pairs: Pairs) -> dict[str, float]:
    """Return the values of measures, each scorer's name giving the share of answers it takes for right.

    Args:
        names: of installed metrics.
        pairs: at least one.
    """
    found: dict[str, float] = {}
    for name in names:
        found |= find_metric(name).values(pairs)
    return found
