"""One batch of an evaluation: from prepared senses to predictions."""

from __future__ import annotations

from collections.abc import Mapping

import torch

from crema_core.api.model import CremaModel
from crema_core.data.dataset import TrainBatch
from crema_core.data.manifest import Record
from crema_core.data.sampling import file_of
from crema_core.evaluation.judge import Judge
from crema_core.evaluation.predictions import Prediction
from crema_core.evaluation.score import best_choice
from crema_core.features.encode import encode_batch
from crema_core.features.feature_cache import FeatureCache
from crema_core.features.sharing import shared_tokens
from crema_core.fusion import Fusion
from crema_core.model.template import PromptTemplate


@torch.no_grad()
def answer_batch(
    model: CremaModel,
    batch: TrainBatch,
    cache: FeatureCache | None,
    judge: Judge,
    templates: Mapping[str, PromptTemplate],
    *,
    max_new_tokens: int,
    num_beams: int,
    fusion: Fusion | None = None,
) -> list[Prediction]:
    """Answer the questions of a batch, all with choices or all without.

    Args:
        model: in eval mode.
        batch: prepared senses and their records.
        cache: features that are not prepared; None for none.
        judge: decides what is right.
        templates: wording by data set, where it is not the model's own.
        max_new_tokens: longest open-ended answer.
        num_beams: beams of its search.
        fusion: strategy to answer with; None: the model's own.
    """
    if len(batch) == 0:  # fewer questions than processes
        return []
    features = encode_batch(model, cache, batch)
    questions = [
        templates.get(record.dataset, model.template).render(record.question, record.choices)
        for record in batch.records
    ]
    keys = {name: [batch.records[row].paths(name) for row in own.rows.tolist()] for name, own in features.items()}
    tokens = shared_tokens(model, features, questions, keys)
    extras = model.extra_outputs(tokens, len(batch))
    prompt = model.prompt(tokens, questions, fusion=fusion)
    num_tokens = prompt.mask.sum(1).tolist()
    if batch.records[0].choices:
        choices = [record.choices or () for record in batch.records]
        scores = model.score_choices(prompt, choices)
        texts = [own[best_choice(row)] for own, row in zip(choices, scores, strict=True)]
        right = [text == record.answer for text, record in zip(texts, batch.records, strict=True)]
    else:
        texts = model.generate(prompt, max_new_tokens=max_new_tokens, num_beams=num_beams)
        right = [judge.is_right(record, text) for text, record in zip(texts, batch.records, strict=True)]
    return [
        Prediction(
            id=record.id,
            type=record.type,
            question=record.question,
            answer=record.answer,
            prediction=texts[row],
            correct=right[row],
            senses=tuple(name for name, rows in batch.present.items() if row in rows.tolist()),
            num_tokens=num_tokens[row],
            clip=clip_of(record),
            dataset=record.dataset,
            answers=record.accepted,
            chosen=bool(record.choices),
            extras=extras[row],
        )
        for row, record in enumerate(batch.records)
    ]


def clip_of(record: Record) -> str:
    """Return what a question is about, for statistics over clips: its first file, or its id where there is none."""
    return next((file_of(record.paths(name)[0]) for name in record.sources if record.paths(name)), record.id)
