"""Measures of a whole data set beside accuracy, found by name among the installed metrics."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial

from crema_core.evaluation.captions import caption_scores, require_captions
from crema_core.evaluation.metric import Metric, Pairs
from crema_core.evaluation.score import normalize
from crema_core.plugins import registry


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


IN_VOCABULARY = Metric("in_vocabulary", "share of answers that are some question's answer", compute=in_vocabulary)
CAPTIONS = Metric(
    "captions",
    "BLEU-4, ROUGE-L and CIDEr",
    compute=caption_scores,
    require=lambda: require_captions("captions"),
)
CAPTIONS_JAVA = Metric(
    "captions_java",
    "BLEU-4, ROUGE-L, CIDEr and METEOR as published, with Java",
    compute=partial(caption_scores, java=True),
    require=lambda: require_captions("captions_java"),
)


def find_metric(name: str) -> Metric:
    """Return a metric by `name` or `distribution:name`.

    Raises:
        OptionsError: for a name nothing provides; it says what is near or what to install.
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
