"""Answering a batch of encoded questions, for `answer` and `evaluate`: fuse, then score the choices or generate."""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch

from crema_core.features.deduplicate import shared_tokens
from crema_core.fusion.base import Fusion
from crema_core.model.network import CremaNetwork, Outputs
from crema_core.model.precision import no_numbers
from crema_core.tokens import ModalityFeatures, known_inputs


class QuestionBatch(NamedTuple):
    """Questions whose sources are encoded."""

    texts: Sequence[str]  # as they are put to the language model
    # of each question; None or empty for an open-ended one. Both kinds may be in one batch.
    choices: Sequence[Sequence[str] | None]
    features: Mapping[str, ModalityFeatures]  # by modality, of the rows that have it
    # by modality, one key for each of these rows; equal ones have equal features
    keys: Mapping[str, Sequence[Hashable]]


NOISE_ULPS = 8
"""Scores that differ by no more units in the last place of a float32 are equal: rounding is no choice."""


@dataclass(frozen=True)
class Answer:
    """An answer and what it rests on.

    Attributes:
        text: the generated text, or the best choice; of a tie "tie: " and the choices it is among.
        scores: log-probability of each choice by its text; of a choice that is given twice the higher one. Empty for
            open-ended questions.
        used: names of the modalities that took part.
        num_tokens: tokens given to the language model, question included.
        extras: further outputs of the strategy, numbers by name of an output such as "encoder_weights".
        tied: choices with equal scores above all others, so that the model chose none of them; empty where it chose.
        choice_scores: the same scores, one for each choice in the order given, of equal ones too.
    """

    text: str
    scores: dict[str, float]
    used: tuple[str, ...]
    num_tokens: int
    extras: Outputs
    tied: tuple[str, ...] = ()
    choice_scores: tuple[float, ...] = ()


@torch.no_grad()
def predict(
    model: CremaNetwork,
    batch: QuestionBatch,
    *,
    max_new_tokens: int,
    num_beams: int = 1,
    fusion: Fusion | None = None,
) -> list[Answer]:
    """Answer the questions of a batch.

    Args:
        model: in eval mode.
        batch: encoded questions.
        max_new_tokens: longest open-ended answer.
        num_beams: beams of its search.
        fusion: strategy to answer with; None: the model's own.
    """
    features = known_inputs(batch.features)
    tokens = shared_tokens(model, features, batch.texts, batch.keys)
    extras = model.extra_outputs(tokens, len(batch.texts))
    prompt = model.prompt(tokens, batch.texts, fusion=fusion)
    num_tokens = prompt.mask.sum(1).tolist()
    # Each pass answers all questions of the batch and keeps the answers of its own kind.
    scored, texts = [], []
    if any(batch.choices):
        scored = model.score_choices(prompt, [own or ["", ""] for own in batch.choices])
        for own, row_scores, text in zip(batch.choices, scored, batch.texts, strict=True):
            if own and any(map(math.isnan, row_scores)):
                raise no_numbers(f"for the question {text!r}")
    if not all(batch.choices):
        texts = model.generate(prompt, max_new_tokens=max_new_tokens, num_beams=num_beams)
    present = {name: own.rows.tolist() for name, own in features.items()}
    answers = []
    for row, own in enumerate(batch.choices):
        used = tuple(name for name, rows in present.items() if row in rows)
        text, tied = choose(own, scored[row]) if own else (texts[row], ())
        scores = _by_choice(own, scored[row]) if own else {}
        each = tuple(scored[row]) if own else ()
        answers.append(Answer(text, scores, used, num_tokens[row], extras[row], tied, each))
    return answers


def _by_choice(choices: Sequence[str], scores: Sequence[float]) -> dict[str, float]:
    """Return the score of each text, of one that is given twice the higher one."""
    found: dict[str, float] = {}
    for choice, score in zip(choices, scores, strict=True):
        found[choice] = max(score, found.get(choice, score))
    return found


def choose(choices: Sequence[str], scores: Sequence[float]) -> tuple[str, tuple[str, ...]]:
    """Return what a model chose, and the choices among which it did not.

    Scores are equal where no arithmetic tells them apart: bit by bit, as those of choices with equal tokens always are,
    or but for `NOISE_ULPS` of the best one, and of 1 where that is nearer to 0. A score that is no number ties
    everything. A choice that is given twice does not tie with itself.

    Args:
        choices: at least one text.
        scores: of each, log-probabilities in float32.

    Returns:
        The best choice and (), or of a tie "tie: a, b" and ("a", "b").

    Example:
        >>> choose(["left", "right"], [-0.5, -1.5])
        ('left', ())
        >>> choose(["left", "right"], [-0.5, -0.5])
        ('tie: left, right', ('left', 'right'))
    """
    best = math.nan if any(map(math.isnan, scores)) else max(scores)
    noise = NOISE_ULPS * 2.0**-23 * max(1.0, abs(best)) if math.isfinite(best) else 0.0
    equal = [
        choice
        for choice, score in zip(choices, scores, strict=True)
        if math.isnan(best) or score == best or best - score <= noise
    ]
    tied = tuple(dict.fromkeys(equal))
    return (tied[0], ()) if len(tied) == 1 else (f"tie: {', '.join(tied)}", tied)
