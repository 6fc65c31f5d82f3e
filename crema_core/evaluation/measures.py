"""Measures of a whole data set beside accuracy, by name."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from crema_core.errors import OptionsError, did_you_mean
from crema_core.evaluation.captions import caption_scores, require_captions
from crema_core.evaluation.score import SCORERS, normalize

Pairs = Sequence[tuple[str, Sequence[str]]]
"""Prediction and accepted answers of every open-ended question."""


def in_vocabulary(pairs: Pairs) -> dict[str, float]:
    """Return the share of predictions that are some question's answer, and the accuracy among these.

    A model that writes freely may name something that is no class at all; CREMA reports VGGSound with and without such
    answers.
    """
    vocabulary = {normalize(answer) for _, answers in pairs for answer in answers}
    inside = [(normalize(text), answers) for text, answers in pairs if normalize(text) in vocabulary]
    right = sum(text in map(normalize, answers) for text, answers in inside)
    return {
        "in_vocabulary": len(inside) / len(pairs),
        "accuracy_in_vocabulary": right / len(inside) if inside else 0.0,
    }


MEASURES: dict[str, Callable[[Pairs], dict[str, float]]] = {
    "in_vocabulary": in_vocabulary,
    "captions": lambda pairs: caption_scores(pairs),
    "captions_java": lambda pairs: caption_scores(pairs, java=True),
}


def require_measures(names: Iterable[str]) -> None:
    """Check that measures are known and can be computed, before any work.

    Raises:
        OptionsError: for an unknown name, or an absent package.
    """
    known = (*MEASURES, *SCORERS)
    for name in names:
        if name not in known:
            raise OptionsError(
                f"'{name}' is not a measure. Measures: {', '.join(known)}.{did_you_mean(name, known)} Name some of "
                "these."
            )
        if name.startswith("captions"):
            require_captions(name)


def measure(names: Iterable[str], pairs: Pairs) -> dict[str, float]:
    """Return the values of measures, each scorer's name giving the share of answers it takes for right.

    Args:
        names: keys of `MEASURES` or `SCORERS`.
        pairs: at least one.
    """
    found: dict[str, float] = {}
    for name in names:
        if name in MEASURES:
            found |= MEASURES[name](pairs)
        else:
            found[name] = sum(SCORERS[name].is_right(text, answers) for text, answers in pairs) / len(pairs)
    return found
