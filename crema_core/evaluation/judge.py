"""Which rule, wording and table each sample's data set asks for."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from crema_core.data.data_file import Record
from crema_core.datasets.prepare import find_dataset
from crema_core.datasets.spec import Column, DatasetSpec
from crema_core.errors import CremaError
from crema_core.evaluation.metric import Metric, find_scorer, require_measures
from crema_core.model.template import PromptTemplate
from crema_core.plugins import registry

logger = logging.getLogger(__name__)

DEFAULT = "exact"
CHOICES = "choices"
"""Stands for the rule where options are scored, beside those for free answers."""


class Judge:
    """Decides about the samples of one evaluation.

    Args:
        records: the samples; their `dataset` names what judges them.
        scorer: one rule for all free answers; None: that of each sample's data set, else "exact".
        measures: further measures; None: those of the data sets.

    Raises:
        OptionsError: for an unknown rule or measure, or one that cannot be computed here.
    """

    def __init__(
        self, records: Sequence[Record], *, scorer: str | None = None, measures: Sequence[str] | None = None
    ) -> None:
        names = dict.fromkeys(record.dataset for record in records)
        self.specs = {name: spec for name in names if name and (spec := _spec(name)) is not None}
        self._default = find_scorer(scorer or DEFAULT)
        own_scorers = {name: find_scorer(spec.scorer) for name, spec in self.specs.items()}
        self._scorers = own_scorers if scorer is None else {}
        own = dict.fromkeys(measure for spec in self.specs.values() for measure in spec.measures)
        self.measures = tuple(own) if measures is None else tuple(measures)
        require_measures(self.measures)
        asked = (scorer or DEFAULT, *(spec.scorer for spec in self.specs.values()), *self.measures)
        self._references = {reference.rpartition(":")[2]: reference for reference in asked}

    def scorer(self, record: Record) -> Metric:
        """Return the rule for a sample's free answer."""
        return self._scorers.get(record.dataset, self._default)

    def is_right(self, record: Record, prediction: str) -> bool:
        """Return whether a free answer is right."""
        rule = self.scorer(record).is_right
        assert rule is not None  # find_scorer asked for it
        return rule(prediction, record.accepted)

    def scorers(self, records: Sequence[Record]) -> tuple[str, ...]:
        """Return the rules used for free answers, and "choices" where options are scored."""
        rules = dict.fromkeys(CHOICES if record.choices else self.scorer(record).name for record in records)
        return tuple(rules)

    def provenance(self, records: Sequence[Record]) -> dict[str, dict[str, str]]:
        """Return name -> package and version of every metric that takes part, as JSON data."""
        names = [name for name in (*self.scorers(records), *self.measures) if name != CHOICES]
        return {name: registry.find("metric", self._references.get(name, name)).provenance() for name in names}

    def templates(self, own: PromptTemplate) -> dict[str, PromptTemplate]:
        """Return the data sets' wordings, on top of the model's settings."""
        return {name: own.model_copy(update=spec.wording.template) for name, spec in self.specs.items()}

    @property
    def columns(self) -> tuple[Column, ...]:
        """Columns of the papers' tables, of all data sets."""
        return tuple(column for spec in self.specs.values() for column in spec.columns)

    @property
    def averages_types(self) -> bool:
        """Whether a data set's total is the mean of its question types."""
        return any(spec.average == "types" for spec in self.specs.values())


def _spec(name: str) -> DatasetSpec | None:
    try:
        return find_dataset(name)
    except CremaError as error:
        logger.warning("%s Its answers are judged by '%s', and its own measures are left out.", error, DEFAULT)
        return None
