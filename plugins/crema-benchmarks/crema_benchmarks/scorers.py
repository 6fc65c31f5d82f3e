"""The rules with which the papers' data sets are judged, as metrics.

The lenient rules of released code are here too, to compare with published numbers; their names end in `_published`.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from crema_benchmarks.clean import clean
from crema_core.evaluation.metric import Metric

_NUMBER_WORDS = "one two three four five six seven eight nine ten".split()
_WORDS = {str(number): word for number, word in enumerate(_NUMBER_WORDS, start=1)}


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


EM = Metric("em", "EM: equal after the SQA3D and ScanQA normalisation", _em)
EM_REFINED = Metric("em_refined", "refined EM: one's words are together in the other", _em_refined)
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
