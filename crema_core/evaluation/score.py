"""When an answer is right.

Every rule has a name, and reports say which was used. By default open-ended answers are right by equality after
normalisation, never by substring ("no" is not in "piano"); of several choices the best-scored option counts. Other
rules are metrics with an entry point of their own.
"""

from __future__ import annotations

import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from crema_core.evaluation.metric import Metric

_NUMBERS = {
    word: str(number) for number, word in enumerate("zero one two three four five six seven eight nine ten".split())
}


class Scores(NamedTuple):
    """Accuracies of a data set.

    Attributes:
        accuracy: share of right answers, 0..1.
        by_type: the same by question type; questions without a type count in `accuracy` alone.
        counts: number of questions by type.
    """

    accuracy: float
    by_type: dict[str, float]
    counts: dict[str, int]


def normalize(answer: str) -> str:
    """Return an answer for comparison: lower case, no punctuation, single spaces, small numbers as digits.

    Example:
        >>> normalize(" Two  drums.")
        '2 drums'
    """
    text = unicodedata.normalize("NFKC", answer).casefold()
    kept = "".join(" " if unicodedata.category(char)[0] in "PZC" else char for char in text)
    return " ".join(_NUMBERS.get(word, word) for word in kept.split())


def is_exact(prediction: str, answer: str) -> bool:
    """Return whether two answers are equal after normalisation."""
    return normalize(prediction) == normalize(answer)


def best_choice(scores: Sequence[float]) -> int:
    """Return the index of the highest score; the first of equals."""
    return max(range(len(scores)), key=scores.__getitem__)


def summarize(results: Iterable[tuple[str, bool]]) -> Scores:
    """Return accuracies.

    Args:
        results: question type and whether the answer was right, at least one.
    """
    by_type: defaultdict[str, list[bool]] = defaultdict(list)
    for kind, right in results:
        by_type[kind].append(right)
    every = [right for own in by_type.values() for right in own]
    named = {kind: own for kind, own in sorted(by_type.items()) if kind}
    return Scores(
        sum(every) / len(every),
        {kind: sum(own) / len(own) for kind, own in named.items()},
        {kind: len(own) for kind, own in named.items()},
    )


def _exact(prediction: str, answers: Sequence[str]) -> bool:
    return any(is_exact(prediction, answer) for answer in answers)


EXACT = Metric("exact", "equal after normalisation", _exact)
