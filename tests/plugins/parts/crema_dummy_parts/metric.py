"""A rule that reads the first word alone."""

from __future__ import annotations

from collections.abc import Sequence

from crema_core.evaluation.metric import Metric


def is_right(prediction: str, answers: Sequence[str]) -> bool:
    """Return whether the first word is an answer's first word."""
    return prediction.split()[:1] in [answer.split()[:1] for answer in answers]


FIRST_WORD = Metric("first_word", "the first words are equal", is_right)
