"""Accuracy of a model on a data set, with all senses or some, intact or shuffled.

With one `FeatureCache` for several calls, each costs only the adapters and the language model; the encoders have run.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TextIO

import torch

from crema_core.data.collate import TrainBatch
from crema_core.data.dataset import SenseDataset
from crema_core.data.loader import load_batches
from crema_core.data.manifest import Record, read_manifest
from crema_core.data.order import cut
from crema_core.errors import ManifestError, OptionsError
from crema_core.evaluation.score import best_choice, is_exact, summarize
from crema_core.evaluation.shuffle import shuffle_sense
from crema_core.model.crema import CremaModel
from crema_core.plugins.hooks import load_hooks
from crema_core.train.cache import FeatureCache
from crema_core.train.encode import cacheable, encode_batch
from crema_core.train.processes import ALONE, Processes
from crema_core.train.progress import StatusLine
from crema_core.train.share import fill_shared


@dataclass(frozen=True)
class Prediction:
    """One answered question.

    Attributes:
        id, type, question, answer: of the sample.
        prediction: the generated text or the chosen option.
        correct: whether it is right.
        senses: the senses that took part.
        num_tokens: tokens given to the language model, question included.
    """

    id: str
    type: str
    question: str
    answer: str
    prediction: str
    correct: bool
    senses: tuple[str, ...]
    num_tokens: int


@dataclass(frozen=True)
class EvaluationResult:
    """What an evaluation found.

    Attributes:
        accuracy: share of right answers, 0..1.
        by_type: the same by question type.
        counts: number of questions by type.
        num_samples: number of questions.
        senses: senses that were allowed to take part.
        shuffled: sense whose sources were exchanged between samples, or None.
        tokens_per_answer: mean number of tokens given to the language model.
        duration_s: wall-clock time, seconds.
    """

    accuracy: float
    by_type: dict[str, float]
    counts: dict[str, int]
    num_samples: int
    senses: tuple[str, ...]
    shuffled: str | None
    tokens_per_answer: float
    duration_s: float

    @property
    def metrics(self) -> dict[str, float]:
        """The accuracies by name, as hooks and journals take them."""
        return {"accuracy": self.accuracy} | {f"accuracy/{kind}": own for kind, own in self.by_type.items()}


def evaluate(
    model: CremaModel,
    data: str | os.PathLike[str] | Sequence[Record],
    *,
    modalities: Sequence[str] | None = None,
    shuffle: str | None = None,
    batch_size: int = 32,
    max_new_tokens: int = 10,
    num_beams: int = 1,
    num_workers: int = 0,
    seed: int = 0,
    out: str | os.PathLike[str] | None = None,
    cache: FeatureCache | None = None,
    status: StatusLine | None = None,
    announce: bool = True,
    processes: Processes = ALONE,
) -> EvaluationResult:
    """Answer every question of a data set and score the answers.

    Args:
        model: a built model; it is left in the mode it was in.
        data: a manifest, or records.
        modalities: senses that take part; None: all of the model's, an empty sequence: the question alone.
        shuffle: a sense whose sources are exchanged between samples.
        batch_size: questions per pass.
        max_new_tokens: longest open-ended answer.
        num_beams: beams of the search for open-ended answers; 1 is greedy.
        num_workers: processes that read media.
        seed: of `shuffle`.
        out: file for one JSON line per question, written as answers come.
        cache: features of this model, filled where they are missing; None: nothing is kept.
        status: where progress is shown.
        announce: tell installed packages' `crema_evaluated` hooks; the trainer tells its own.
        processes: those that share the questions; all of them make this same call and get the same result, and the
            main one writes. By default this process answers every question itself.

    Raises:
        OptionsError: for an unknown sense, or a cache of another model.
        ManifestError: for data without any question.
        MediaError: when a source cannot be read.

    Example:
        >>> crema_core.evaluate(model, "test.jsonl", modalities=["video"]).accuracy    # doctest: +SKIP
    """
    model.backbone.require_weights()
    senses = _chosen(model, modalities)
    records = read_manifest(data, modalities=model.names) if isinstance(data, str | os.PathLike) else list(data)
    if not records:
        raise ManifestError("There is nothing to evaluate: the data have no samples. Give at least one.")
    if cache is not None and cache.model is not model:
        raise OptionsError(
            "The feature cache belongs to another model. Features come from a model's own encoders. "
            "Make one with FeatureCache(model)."
        )
    if shuffle is not None:
        if shuffle not in senses:
            raise OptionsError(
                f"shuffle='{shuffle}' takes no part in this evaluation. Taking part: {', '.join(senses) or 'none'}. "
                "Name one of these, or add it to modalities."
            )
        records = shuffle_sense(records, shuffle, seed=seed)
    records = [replace(record, sources={n: s for n, s in record.sources.items() if n in senses}) for record in records]
    started = time.monotonic()
    mode = model.training
    model.eval()
    try:
        predictions = _predict(
            model,
            records,
            senses,
            batch_size=batch_size,
            max_new_tokens=max_new_tokens,
            num_beams=num_beams,
            num_workers=num_workers,
            cache=cache,
            status=status,
            processes=processes,
        )
        results, num_tokens = _collect(predictions, out if processes.is_main else None)
    finally:
        model.train(mode)
    scores = summarize(results)
    result = EvaluationResult(
        *scores,
        num_samples=len(results),
        senses=senses,
        shuffled=shuffle,
        tokens_per_answer=num_tokens / len(results),
        duration_s=time.monotonic() - started,
    )
    if announce and processes.is_main:
        load_hooks().call("crema_evaluated", trainer=None, metrics=result.metrics)
    return result


def _chosen(model: CremaModel, modalities: Sequence[str] | None) -> tuple[str, ...]:
    wanted = model.names if modalities is None else tuple(modalities)
    for name in wanted:
        model.sense(name)  # raises with the nearest name
    return tuple(name for name in model.names if name in wanted)


def _collect(
    predictions: Iterator[Prediction], out: str | os.PathLike[str] | None
) -> tuple[list[tuple[str, bool]], int]:
    """Write predictions as they come; keep only what the scores need."""
    results, num_tokens = [], 0
    with ExitStack() as stack:
        file: TextIO | None = None
        if out is not None:
            Path(out).parent.mkdir(parents=True, exist_ok=True)
            file = stack.enter_context(Path(out).open("w", encoding="utf-8"))
        for prediction in predictions:
            results.append((prediction.type, prediction.correct))
            num_tokens += prediction.num_tokens
            if file is not None:
                file.write(json.dumps(asdict(prediction)) + "\n")
                file.flush()
    return results, num_tokens


def _predict(
    model: CremaModel,
    records: Sequence[Record],
    senses: tuple[str, ...],
    *,
    batch_size: int,
    max_new_tokens: int,
    num_beams: int,
    num_workers: int,
    cache: FeatureCache | None,
    status: StatusLine | None,
    processes: Processes,
) -> Iterator[Prediction]:
    cached = frozenset(cacheable(model, senses) if cache is not None else ())
    if cache is not None:
        fill_shared(
            cache,
            records,
            names=[name for name in senses if name in cached],
            batch_size=batch_size,
            processes=processes,
            num_workers=num_workers,
            status=status,
        )
    dataset = SenseDataset(
        records, {name: model.sense(name).modality for name in senses}, major=model.major, cached=cached
    )
    # Scoring choices and generating text are different passes, so a batch has questions of one kind.
    kinds = [[i for i, record in enumerate(records) if bool(record.choices) is kind] for kind in (True, False)]
    pieces = [piece for kind in kinds for piece in cut(kind, batch_size)]
    shares = [processes.share(piece) for piece in pieces]
    # Where the language model's layers are shared out every process makes every pass: one without a question of its own
    # answers another's too, and nobody hears of it.
    stand_ins = [piece[:1] if model.language.in_step else [] for piece in pieces]
    keys = [[(0, index) for index in share or other] for share, other in zip(shares, stand_ins, strict=True)]
    done = 0
    batches = load_batches(dataset, keys, num_workers=0 if cached.issuperset(senses) else num_workers)
    for share, batch in zip(shares, batches, strict=True):
        own = _answer(model, batch, cache, max_new_tokens=max_new_tokens, num_beams=num_beams)[: len(share)]
        found = [prediction for part in processes.gather(own) for prediction in part]
        yield from found
        done += len(found)
        if status is not None:
            status.show(f"evaluating: {done:,} of {len(records):,} questions")


@torch.no_grad()
def _answer(
    model: CremaModel, batch: TrainBatch, cache: FeatureCache | None, *, max_new_tokens: int, num_beams: int
) -> list[Prediction]:
    if len(batch) == 0:  # fewer questions than processes
        return []
    features = encode_batch(model, cache, batch)
    tokens = {name: model.sense_tokens(name, own) for name, own in features.items()}
    questions = [model.template.render(record.question, record.choices) for record in batch.records]
    num_tokens = model.prompt(tokens, questions).mask.sum(1).tolist()
    if batch.records[0].choices:
        choices = [record.choices or () for record in batch.records]
        scores = model.score_choices(tokens, questions, choices)
        texts = [own[best_choice(row)] for own, row in zip(choices, scores, strict=True)]
        right = [text == record.answer for text, record in zip(texts, batch.records, strict=True)]
    else:
        texts = model.generate(tokens, questions, max_new_tokens=max_new_tokens, num_beams=num_beams)
        right = [is_exact(text, record.answer) for text, record in zip(texts, batch.records, strict=True)]
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
        )
        for row, record in enumerate(batch.records)
    ]
