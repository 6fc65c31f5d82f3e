"""When an answer is right.

Every rule has a name, and reports say which was used. By default open-ended answers are right by equality after
normalisation, never by substring ("no" is not in "piano"); of several choices the best-scored option counts. Other
rules are metrics with an entry point of their own.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence

from crema_core.evaluation.metric import Metric

_NUMBERS = {
    word: str(number) for number, word in enumerate("zero one two three four five six seven eight nine ten".split())
}


def normalize(answer: str) -> str:
    """Return an answer for comparison: lower case, no punctuation, single spaces, small numbers as digits.

    Example:
        >>> normalize(" Two  drums.")
        '2 drums'
    """
    text = unicodedata.normalize("NFKC", answer).casefold()
    kept = "".join(" " if unicodedata.category(char)[0] in "PZC" else char for char in text)
    return " ".join(_NUMBERS.get(word, word) for word in kept.split())


def _exact(prediction: str, answers: Sequence[str]) -> bool:
    return normalize(prediction) in map(normalize, answers)


EXACT = Metric("exact", "equal after normalisation", _exact)
