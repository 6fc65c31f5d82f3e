"""Answering a batch of encoded questions, for `answer` and `evaluate`: fuse, then score the choices or generate."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch

from crema_core.features.deduplicate import shared_tokens
from crema_core.fusion.base import Fusion
from crema_core.model.network import CremaNetwork, Outputs
from crema_core.tokens import ModalityFeatures


class QuestionBatch(NamedTuple):
    """Questions whose sources are encoded."""

    texts: Sequence[str]  # as they are put to the language model
    # of each question; None or empty for an open-ended one. Both kinds may be in one batch.
    choices: Sequence[Sequence[str] | None]
    features: Mapping[str, ModalityFeatures]  # by modality, of the rows that have it
    # by modality, one key for each of these rows; equal ones have equal features
    keys: Mapping[str, Sequence[Hashable]]


@dataclass(frozen=True)
class Answer:
    """An answer and what it rests on.

    Attributes:
        text: the generated text, or the best choice.
        scores: log-probability of each choice; empty for open-ended questions.
        used: names of the modalities that took part.
        num_tokens: tokens given to the language model, question included.
        extras: further outputs of the strategy, numbers by name of an output such as "encoder_weights".
    """

    text: str
    scores: dict[str, float]
    used: tuple[str, ...]
    num_tokens: int
    extras: Outputs


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
    tokens = shared_tokens(model, batch.features, batch.texts, batch.keys)
    extras = model.extra_outputs(tokens, len(batch.texts))
    prompt = model.prompt(tokens, batch.texts, fusion=fusion)
    num_tokens = prompt.mask.sum(1).tolist()
    # Each pass answers all questions of the batch and keeps the answers of its own kind.
    scored, texts = [], []
    if any(batch.choices):
        scored = model.score_choices(prompt, [own or ["", ""] for own in batch.choices])
    if not all(batch.choices):
        texts = model.generate(prompt, max_new_tokens=max_new_tokens, num_beams=num_beams)
    present = {name: own.rows.tolist() for name, own in batch.features.items()}
    answers = []
    for row, own in enumerate(batch.choices):
        text = own[best_choice(scored[row])] if own else texts[row]
        scores = dict(zip(own, scored[row], strict=True)) if own else {}
        used = tuple(name for name, rows in present.items() if row in rows)
        answers.append(Answer(text, scores, used, num_tokens[row], extras[row]))
    return answers


def best_choice(scores: Sequence[float]) -> int:
    """Return the index of the highest score; the first of equals."""
    return max(range(len(scores)), key=scores.__getitem__)
