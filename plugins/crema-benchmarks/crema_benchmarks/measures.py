"""Measures of a whole data set beside accuracy: answers outside a vocabulary, and captions."""

from __future__ import annotations

from functools import partial

from crema_benchmarks.captions import caption_scores, require_captions
from crema_core.evaluation.metric import Metric, Pairs
from crema_core.evaluation.score import normalize


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
