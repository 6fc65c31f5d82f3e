"""Accuracy of a model on a data set, with all senses or some, intact or shuffled.

With one `FeatureCache` for several calls, each costs only the adapters and the language model; the encoders have run.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from crema_core.api.model import CremaModel
from crema_core.common.processes import ALONE, Processes
from crema_core.common.progress import StatusLine
from crema_core.data.dataset import SenseDataset, load_batches
from crema_core.data.manifest import Record, read_manifest
from crema_core.data.order import cut
from crema_core.errors import ManifestError, OptionsError
from crema_core.evaluation.batch import answer_batch
from crema_core.evaluation.breakdown import breakdown
from crema_core.evaluation.extras import mean_extras
from crema_core.evaluation.judge import Judge
from crema_core.evaluation.metric import measure
from crema_core.evaluation.predictions import Prediction, PredictionFile, digest, records_digest
from crema_core.evaluation.result import EvaluationResult, FusionMode, Prompts
from crema_core.evaluation.score import summarize
from crema_core.evaluation.shuffle import shuffle_sense
from crema_core.features.encode import cacheable, fill_shared, read_ahead
from crema_core.features.feature_cache import FeatureCache, as_cache
from crema_core.fusion import Fusion
from crema_core.fusion.strategies import ConcatFusion
from crema_core.model.allocator import reuse_freed_memory
from crema_core.model.memory import NEEDS_LESS, fits
from crema_core.model.template import PromptTemplate
from crema_core.plugins.hooks import load_hooks

__all__ = ["EvaluationResult", "Prediction", "chosen_fusion", "evaluate"]


@reuse_freed_memory()
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
    resume: bool = False,
    scorer: str | None = None,
    measures: Sequence[str] | None = None,
    prompts: Prompts = "model",
    fusion: FusionMode = "model",
    cache: FeatureCache | str | os.PathLike[str] | None = None,
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
        resume: keep the answers that `out` already has from the same evaluation, and go on.
        scorer: rule for open-ended answers, a metric with a verdict on single answers; None: that of the data set the
            samples name, else "exact".
        measures: further measures, names of installed metrics; None: those of the data set.
        prompts: "dataset" puts questions as the data set's paper does, "model" as the model was trained.
        fusion: "concat" bypasses the fusion and gives the language model every sense's own tokens, which needs no
            trained fusion (zero-shot, CREMA appendix A.5).
        cache: features of this model, or the folder of a cache, filled where they are missing; None: nothing is kept.
        status: where progress is shown.
        announce: tell installed packages' `crema_evaluated` hooks; the trainer tells its own.
        processes: those that share the questions; all of them make this same call and get the same result, and the
            main one writes. By default this process answers every question itself.

    Raises:
        OptionsError: for an unknown sense, rule or measure, a missing package, or a cache of another model.
        CheckpointError: when `out` cannot be continued.
        CacheError: for a folder that cannot be a cache.
        ManifestError: for data without any question.
        MediaError: when a source cannot be read.
        OutOfMemoryError: when a batch does not fit.

    Example:
        >>> crema_core.evaluate(model, "test.jsonl", modalities=["video"]).accuracy    # doctest: +SKIP
    """
    model.backbone.require_weights()
    senses = _chosen(model, modalities)
    records = read_manifest(data, modalities=model.names) if isinstance(data, str | os.PathLike) else list(data)
    if not records:
        raise ManifestError("There is nothing to evaluate: the data have no samples. Give at least one.")
    cache = as_cache(model, cache)
    if shuffle is not None:
        if shuffle not in senses:
            raise OptionsError(
                f"shuffle='{shuffle}' takes no part in this evaluation. Taking part: {', '.join(senses) or 'none'}. "
                "Name one of these, or add it to modalities."
            )
        records = shuffle_sense(records, shuffle, seed=seed)
    records = [replace(record, sources={n: s for n, s in record.sources.items() if n in senses}) for record in records]
    judge = Judge(records, scorer=scorer, measures=measures)
    rules = {"scorer": scorer, "prompts": prompts, "fusion": fusion}
    answers = {"max_new_tokens": max_new_tokens, "num_beams": num_beams, "shuffle": shuffle, "senses": list(senses)}
    identity = {} if out is None else {"data": records_digest(records), "model": _digest(model), **answers, **rules}
    journal = _journal(None if out is None else Path(out), identity, resume=resume, processes=processes)
    left = journal.left(records)
    started = time.monotonic()
    mode = model.training
    model.eval()
    try:
        with journal, fits(f"A pass over {batch_size} questions", NEEDS_LESS):
            predictions = _predict(
                model,
                left,
                senses,
                judge=judge,
                templates=judge.templates(model.template) if prompts == "dataset" else {},
                batch_size=batch_size,
                max_new_tokens=max_new_tokens,
                num_beams=num_beams,
                num_workers=num_workers,
                cache=cache,
                status=status,
                processes=processes,
                fusion=chosen_fusion(model, fusion),
            )
            results = list(journal.done)
            for prediction in predictions:
                journal.add(prediction)
                results.append(prediction)
    finally:
        model.train(mode)
    free = [(own.prediction, own.answers) for own in results if not own.chosen]
    result = EvaluationResult(
        *summarize((own.type, own.correct) for own in results),
        num_samples=len(results),
        senses=senses,
        shuffled=shuffle,
        tokens_per_answer=sum(own.num_tokens for own in results) / len(results),
        duration_s=time.monotonic() - started,
        scorers=judge.scorers(records),
        table=tuple(breakdown(results, columns=judge.columns, average_types=judge.averages_types)),
        measures=measure(judge.measures, free) if free else {},
        metric_packages=judge.provenance(records),
        prompts=prompts,
        fusion=fusion,
        extras=mean_extras(results),
    )
    if announce and processes.is_main:
        load_hooks().call("crema_evaluated", trainer=None, metrics=result.metrics)
    return result


def _chosen(model: CremaModel, modalities: Sequence[str] | None) -> tuple[str, ...]:
    wanted = model.names if modalities is None else tuple(modalities)
    for name in wanted:
        model.sense(name)  # raises with the nearest name
    return tuple(name for name in model.names if name in wanted)


def _journal(out: Path | None, identity: Mapping[str, Any], *, resume: bool, processes: Processes) -> PredictionFile:
    """Open the file of answers in the main process; all processes know what it has already."""
    opened: list[PredictionFile] = []

    def begin() -> list[Prediction]:
        opened.append(PredictionFile(out, identity, resume=resume))
        return opened[0].done

    done = processes.from_main(begin)
    journal = opened[0] if opened else PredictionFile(None, identity)
    journal.done = done
    return journal


def _digest(model: CremaModel) -> str:
    """Return a digest of the configuration and the trainable state; the frozen rest is named by its place."""
    state = model.adapter_state_dict()
    config = json.dumps(model.config, sort_keys=True, default=str).encode()
    return digest([config, *(state[key].float().numpy().tobytes() for key in sorted(state))])


def chosen_fusion(model: CremaModel, mode: FusionMode) -> Fusion:
    """Return the model's fusion, or one that leaves every modality's own tokens side by side."""
    own = model.fusion
    if mode == "model":
        return own
    return ConcatFusion((), width=own.width, num_queries=own.num_queries, layout=own.layout)


def _predict(
    model: CremaModel,
    records: Sequence[Record],
    senses: tuple[str, ...],
    *,
    judge: Judge,
    templates: Mapping[str, PromptTemplate],
    batch_size: int,
    max_new_tokens: int,
    num_beams: int,
    num_workers: int,
    cache: FeatureCache | None,
    status: StatusLine | None,
    processes: Processes,
    fusion: Fusion,
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
    for share, batch in zip(shares, read_ahead(batches, cache), strict=True):
        own = answer_batch(
            model,
            batch,
            cache,
            judge,
            templates,
            max_new_tokens=max_new_tokens,
            num_beams=num_beams,
            fusion=fusion,
        )
        found = [prediction for part in processes.gather(own[: len(share)]) for prediction in part]
        yield from found
        done += len(found)
        if status is not None:
            status.show(f"evaluating: {done:,} of {len(records):,} questions")
