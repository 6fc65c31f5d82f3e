"""When an answer is right.

Every rule has a name, and reports say which was used. By default open-ended answers are right by equality after
normalisation, never by substring ("no" is not in "piano"); of several choices the best-scored option counts. The
lenient rules of released code are here too, to compare with published numbers; their names end in `_published`. Each is
a metric with an entry point of its own.
"""

from __future__ import annotations

import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from crema_core.errors import OptionsError
from crema_core.evaluation.clean import clean
from crema_core.evaluation.metric import Metric
from crema_core.plugins import registry

_NUMBERS = {
    word: str(number) for number, word in enumerate("zero one two three four five six seven eight nine ten".split())
}
_WORDS = {digits: word for word, digits in _NUMBERS.items() if digits != "0"}


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


def find_scorer(name: str) -> Metric:
    """Return the rule for free answers of `name` or `distribution:name`, a metric with `is_right`.

    Raises:
        OptionsError: for a name nothing provides, a metric without a verdict on single answers, or one that cannot be
            computed here.
        PluginError: when its package is switched off, broken, or not the only one of this name.
    """
    found: Metric = registry.load("metric", name)
    if found.is_right is None:
        raise OptionsError(
            f"'{name}' ({found.summary}) measures a data set as a whole and cannot judge single answers. Accepted as "
            "scorer: a metric with a rule for them, such as 'exact'. Name it among the measures instead."
        )
    if found.require is not None:
        found.require()
    return found


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


def _em(prediction: str, answers: Sequence[str]) -> bool:
    text = clean(prediction)
    return bool(text) and text in map(clean, answers)


def _em_refined(prediction: str, answers: Sequence[str]) -> bool:
    words = clean(prediction).split()
    return bool(words) and any(
        _within(words, own) or _within(own, words) for own in (clean(answer).split() for answer in answers) if own
    )


def _within(short: Sequence[str], long: Sequence[str]) -> bool:
    return any(long[start : start + len(short)] == short for start in range(len(long) - len(short) + 1))


def _em_refined_published(prediction: str, answers: Sequence[str]) -> bool:
    text = clean(prediction)
    joined = [("".join(text.split()), "".join(clean(answer).split())) for answer in answers]
    return bool(text) and any(own in other or other in own for own, other in joined)


def _crema_sqa3d(prediction: str, answers: Sequence[str]) -> bool:
    gold = answers[0]
    line = re.sub(r",|<pad>|</s>", "", prediction).split("\n")[0].lower()
    words = line.split()
    text = (words[-1] if words else "") if len(gold.split()) == 1 else line
    return " ".join(_WORDS.get(word, word) for word in text.split()) in gold


def _crema_music(prediction: str, answers: Sequence[str]) -> bool:
    return _WORDS.get(prediction, prediction) in _WORDS.get(answers[0], answers[0])


def _pave_music(prediction: str, answers: Sequence[str]) -> bool:
    return answers[0].lower() in prediction.lower()


EXACT = Metric("exact", "equal after normalisation", _exact)
EM = Metric("em", "EM: equal after the SQA3D and ScanQA normalisation", _em)
EM_REFINED = Metric("em_refined", "refined EM: one's words stand together in the other", _em_refined)
EM_REFINED_PUBLISHED = Metric(
    "em_refined_published", "refined EM as published: one is a substring of the other", _em_refined_published
)
CREMA_SQA3D_PUBLISHED = Metric(
    "crema_sqa3d_published", "released CREMA, SQA3D: the prediction is a substring", _crema_sqa3d
)
CREMA_MUSIC_AVQA_PUBLISHED = Metric(
    "crema_music_avqa_published", "released CREMA, MUSIC-AVQA: the prediction is a substring", _crema_music
)
PAVE_MUSIC_AVQA_PUBLISHED = Metric(
    "pave_music_avqa_published", "released PAVE, MUSIC-AVQA: the answer is a substring", _pave_music
)
