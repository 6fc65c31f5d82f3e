"""Accuracy of a model on a data set, with all modalities or some, intact or shuffled.

With one `FeatureCache` for several calls, each costs only the adapters and the language model; the encoders have run.
"""

from __future__ import annotations

import json
import logging
import os
import random
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from crema_core.api.model import CremaModel
from crema_core.api.predict import QuestionBatch, predict
from crema_core.common.owner import owned_file
from crema_core.common.processes import ALONE, Processes
from crema_core.common.progress import StatusLine
from crema_core.data.data_file import Data, Record, Samples, Source, read_samples, unusable_samples
from crema_core.data.dataset import Key, ModalityDataset, TrainBatch, load_batches
from crema_core.data.order import cut, derive_seed
from crema_core.data.unusable import SKIPPED, settle, summary, write_skipped
from crema_core.errors import CheckpointError, DataFileError, OptionsError
from crema_core.evaluation.answer_tokens import check_answer_tokens, describe_clashes, require_choices
from crema_core.evaluation.breakdown import breakdown
from crema_core.evaluation.judge import Judge
from crema_core.evaluation.metric import measure
from crema_core.evaluation.predictions import Prediction, PredictionFile, clip_of, digest, records_digest
from crema_core.evaluation.result import EvaluationResult, mean_extras
from crema_core.evaluation.settings import EvaluationSettings, FusionMode
from crema_core.features.encode import cacheable, encode_batch, fill_shared, read_ahead
from crema_core.features.feature_cache import FeatureCache, as_cache
from crema_core.features.readable import find_unreadable
from crema_core.features.window import Window, by_source
from crema_core.fusion.base import Fusion
from crema_core.fusion.strategies import ConcatFusion
from crema_core.model.allocator import retain_freed_memory
from crema_core.model.memory import NEEDS_LESS, explain_out_of_memory
from crema_core.model.network import computes_as_built
from crema_core.plugins.hooks import load_hooks
from crema_core.plugins.spec import with_changes

logger = logging.getLogger(__name__)

KEPT_BATCHES = 2
"""Without a cache, the features of so many batches of sources are kept for further questions about them."""

__all__ = ["EvaluationResult", "Prediction", "chosen_fusion", "evaluate"]


@retain_freed_memory()
@computes_as_built
def evaluate(
    model: CremaModel,
    data: Data,
    settings: EvaluationSettings | None = None,
    *,
    cache: FeatureCache | str | os.PathLike[str] | None = None,
    status: StatusLine | None = None,
    announce: bool = True,
    processes: Processes = ALONE,
    before_batch: Callable[[], None] | None = None,
    **changes: object,
) -> EvaluationResult:
    """Answer every question of a data set and score the answers.

    Args:
        model: a built model; it is left in the mode it was in.
        data: a data file, or samples: records, or mappings with the keys of a line.
        settings: of the evaluation, whole; None: the defaults.
        cache: features of this model, or the folder of a cache, filled where they are missing; None: nothing is kept.
        status: where progress is shown.
        announce: warn of answers that cannot be told apart, and tell installed packages' `crema_evaluated` hooks; the
            trainer does both itself.
        processes: those that share the questions; all of them make this same call and get the same result, and the
            main one writes. By default this process answers every question itself.
        before_batch: called before every batch; what it raises ends the evaluation. None: nothing is.
        **changes: single settings, the fields of `EvaluationSettings`: modalities, shuffle, batch_size, scorer,
            measures, out, resume and so on.

    Raises:
        OptionsError: for an unknown setting, modality, rule or measure, a missing package, or a cache of another model.
        CheckpointError: when `out` cannot be continued, or another evaluation is writing it.
        CacheError: for a folder that cannot be a cache.
        DataFileError: for data without any question, or samples whose files cannot be used.
        MediaError: when a source cannot be read.
        OutOfMemoryError: when a batch does not fit.

    Example:
        >>> crema_core.evaluate(model, "test.jsonl", modalities=["video"]).accuracy    # doctest: +SKIP
    """
    settings = with_changes(settings or EvaluationSettings(), changes, title="evaluate")
    model.backbone.require_weights()
    wanted = model.names if settings.modalities is None else settings.modalities
    for name in wanted:
        model.branch(name)  # raises with the nearest name
    taking_part = tuple(name for name in model.names if name in wanted)
    cache = as_cache(model, cache)
    samples = usable_samples(model, data, settings, names=taking_part, cache=cache, status=status, processes=processes)
    records = samples.usable
    if not records:
        raise DataFileError("There is nothing to evaluate: the data have no samples. Give at least one.")
    if settings.shuffle is not None:
        if settings.shuffle not in taking_part:
            raise OptionsError(
                f"shuffle='{settings.shuffle}' takes no part in this evaluation. Taking part: "
                f"{', '.join(taking_part) or 'none'}. Name one of these, or add it to modalities."
            )
        records = shuffle_modality(records, settings.shuffle, seed=settings.seed)
    records = [_only(record, taking_part) for record in records]
    require_choices(records, model.template, name=_name(data))
    if announce and processes.is_main:
        clashes = check_answer_tokens(
            records,
            chat_format=model.language.chat_format,
            template=model.template,
            say=(status or StatusLine(enabled=False)).show,
        )
        if clashes:
            logger.warning("%s", describe_clashes(_name(data), clashes))
    judge = Judge(records, scorer=settings.scorer, measures=settings.measures)
    started, mode = time.monotonic(), model.training
    with _only_writer(settings.out, processes, status):
        prediction_log = _open_log(model, records, taking_part, settings, processes)
        left = prediction_log.left(records)
        model.eval()
        try:
            with prediction_log, explain_out_of_memory(f"A pass over {settings.batch_size} questions", NEEDS_LESS):
                results = list(prediction_log.done)
                for prediction in _predict(
                    model, left, taking_part, settings, judge, cache, status, processes, before_batch
                ):
                    prediction_log.add(prediction)
                    results.append(prediction)
        finally:
            model.train(mode)
    free = [(own.prediction, own.answers) for own in results if not own.chosen]
    table = breakdown(results, columns=judge.columns, average_types=judge.averages_types)
    types = table[: len({own.type for own in results if own.type})]  # a table begins with them
    result = EvaluationResult(
        accuracy=sum(own.credit for own in results) / len(results),
        by_type={row.name: row.accuracy for row in types},
        counts={row.name: row.number for row in types},
        num_samples=len(results),
        modalities=taking_part,
        shuffled=settings.shuffle,
        tokens_per_answer=sum(own.num_tokens for own in results) / len(results),
        duration_s=time.monotonic() - started,
        scorers=judge.scorers(records),
        table=tuple(table),
        measures=measure(judge.measures, free) if free else {},
        metric_packages=judge.provenance(records),
        prompts=settings.prompts,
        fusion=settings.fusion,
        extras=mean_extras(results),
        num_ties=sum(bool(own.tied) for own in results),
        skipped=tuple(samples.unusable),
    )
    if settings.out is not None and settings.on_error == "skip":
        out = settings.out
        processes.from_main(lambda: write_skipped(out.with_name(f"{out.name}.{SKIPPED}"), {"data": samples.unusable}))
    if announce and processes.is_main:
        load_hooks().call("crema_evaluated", trainer=None, metrics=result.metrics, control=None)
    return result


def usable_samples(
    model: CremaModel,
    data: Data,
    settings: EvaluationSettings,
    *,
    names: Sequence[str],
    cache: FeatureCache | None = None,
    status: StatusLine | None = None,
    processes: Processes = ALONE,
) -> Samples:
    """Read the samples of an evaluation, and refuse or find those whose files cannot be used.

    Args:
        model, data, cache, status, processes: as for `evaluate`.
        settings: of the evaluation; `on_error` says what is done about unusable samples.
        names: modalities that take part; files of others do not matter with "skip".

    Raises:
        DataFileError: for samples that cannot be used, or that are too many to be left out.
    """
    skips = settings.on_error == "skip"
    samples = read_samples(data, modalities=model.names, specs=model.specs)
    if skips:
        folder = Path(data).parent if isinstance(data, str | os.PathLike) else None
        numbered = zip(samples.numbers, (_only(record, names) for record in samples.records), strict=True)
        unusable = unusable_samples(numbered, name=samples.name, folder=folder, specs=model.specs)
        samples = samples._replace(unusable=unusable)
    settle([samples], on_error=settings.on_error, max_skipped=settings.max_skipped)
    if not skips:
        return samples
    (samples,) = find_unreadable(
        model,
        [samples],
        names,
        cache=cache,
        batch_size=settings.batch_size,
        num_workers=settings.num_workers,
        processes=processes,
        status=status,
        max_skipped=settings.max_skipped,
    )
    if samples.unusable and processes.is_main and status is not None:
        status.note(f"{summary(samples)} They are left out.")
    return samples


def _name(data: Data) -> str:
    return Path(data).name if isinstance(data, str | os.PathLike) else "The data"


def _only(record: Record, names: Sequence[str]) -> Record:
    return replace(record, sources={name: own for name, own in record.sources.items() if name in names})


def shuffle_modality(records: Sequence[Record], name: str, *, seed: int = 0) -> list[Record]:
    """Return the records with the sources of one modality exchanged: does the model really use that modality?

    Whole sources are exchanged, not samples: all questions about a clip get the same other clip's file, and no question
    ever keeps its own.

    Args:
        records: samples; those without the modality stay as they are.
        name: the modality.
        seed: of the exchange.

    Raises:
        OptionsError: when there are not at least two different sources to exchange.
    """
    sources: dict[tuple[str, ...], Source] = {
        record.paths(name): record.sources[name] for record in records if name in record.sources
    }
    keys = list(sources)
    if len(keys) < 2:
        raise OptionsError(
            f"shuffle='{name}' cannot be done: the data have {len(keys)} different sources of it. Exchanging needs at "
            "least two. Use more data, or leave shuffle out."
        )
    random.Random(derive_seed("shuffle", seed, name)).shuffle(keys)
    # One cycle through all sources in random order: nobody keeps its own.
    other = dict(zip(keys, [*keys[1:], keys[0]], strict=True))
    return [
        replace(record, sources=record.sources | {name: sources[other[record.paths(name)]]})
        if name in record.sources
        else record
        for record in records
    ]


@contextmanager
def _only_writer(out: Path | None, processes: Processes, status: StatusLine | None) -> Iterator[None]:
    """Let no other evaluation write the file of answers inside the block; the main process holds the lock for all."""
    with ExitStack() as stack:
        if out is not None:
            say = logger.warning if status is None else status.note
            owned = owned_file(out, work="an evaluation", advice="give another out=", say=say, error=CheckpointError)
            processes.from_main(lambda: stack.enter_context(owned))
        yield


def _open_log(
    model: CremaModel,
    records: Sequence[Record],
    taking_part: tuple[str, ...],
    settings: EvaluationSettings,
    processes: Processes,
) -> PredictionFile:
    """Open the file of answers in the main process; all processes know what it has already."""
    identity: dict[str, Any] = {}
    if settings.out is not None:
        rules = settings.model_dump(include={"max_new_tokens", "num_beams", "shuffle", "scorer", "prompts", "fusion"})
        # The configuration and the trainable state; the frozen rest is named by its place.
        state, config = model.adapter_state_dict(), json.dumps(model.config, sort_keys=True, default=str).encode()
        weights = digest([config, *(state[key].float().numpy().tobytes() for key in sorted(state))])
        identity = {"data": records_digest(records), "model": weights, "modalities": list(taking_part), **rules}
    opened: list[PredictionFile] = []

    def begin() -> list[Prediction]:
        opened.append(PredictionFile(settings.out, identity, resume=settings.resume))
        return opened[0].done

    done = processes.from_main(begin)
    prediction_log = opened[0] if opened else PredictionFile(None, identity)
    prediction_log.done = done
    return prediction_log


def chosen_fusion(model: CremaModel, mode: FusionMode) -> Fusion:
    """Return the model's fusion, or one that leaves every modality's own tokens side by side."""
    own = model.fusion
    if mode == "model":
        return own
    return ConcatFusion((), width=own.width, num_queries=own.num_queries, layout=own.layout)


def _predict(
    model: CremaModel,
    records: Sequence[Record],
    taking_part: tuple[str, ...],
    settings: EvaluationSettings,
    judge: Judge,
    cache: FeatureCache | None,
    status: StatusLine | None,
    processes: Processes,
    before_batch: Callable[[], None] | None,
) -> Iterator[Prediction]:
    cached = frozenset(cacheable(model, taking_part) if cache is not None else ())
    if cache is not None:
        fill_shared(
            cache,
            records,
            names=[name for name in taking_part if name in cached],
            batch_size=settings.batch_size,
            processes=processes,
            num_workers=settings.num_workers,
            status=status,
        )
    fusion = chosen_fusion(model, settings.fusion)
    dataset = ModalityDataset(
        records, {name: model.branch(name).modality for name in taking_part}, major=model.major, cached=cached
    )
    pieces = _pieces(records, taking_part, settings.batch_size)
    shards = [processes.shard(piece) for piece in pieces]
    # Where the language model's layers are shared out every process makes every pass: one without a question of its own
    # answers another's too, and nobody hears of it.
    stand_ins = [piece[:1] if model.language.in_step else [] for piece in pieces]
    keys = [[Key(0, index) for index in shard or other] for shard, other in zip(shards, stand_ins, strict=True)]
    shared = () if cache is not None else cacheable(model, taking_part)
    window = Window(shared, num_sources=KEPT_BATCHES * settings.batch_size)
    done = 0
    num_workers = 0 if cached.issuperset(taking_part) else settings.num_workers
    batches = load_batches(dataset, window.plan(dataset, keys), num_workers=num_workers)
    for shard, batch in zip(shards, read_ahead(batches, cache), strict=True):
        if before_batch is not None:
            before_batch()
        own = _answer_batch(model, batch, settings, judge, (cache, window), fusion)
        found = [prediction for part in processes.gather(own[: len(shard)]) for prediction in part]
        yield from found
        done += len(found)
        if status is not None:
            status.show(f"evaluating: {done:,} of {len(records):,} questions")


def _pieces(records: Sequence[Record], taking_part: Sequence[str], batch_size: int) -> list[list[int]]:
    """Return the positions of the records of each batch, those about one source in one batch or the next.

    Scoring choices and generating text are different passes, so a batch has questions of one kind. Where a source is
    asked about in both ways, the kinds take turns, so that it is still known.
    """
    groups = by_source(records, taking_part)
    chosen = [bool(record.choices) for record in records]
    takes_turns = any(len({chosen[position] for position in group}) == 2 for group in groups)
    turns = cut(groups, KEPT_BATCHES * batch_size) if takes_turns else [groups]
    pieces = []
    for turn in turns:
        for kind in (True, False):
            own = [position for group in turn for position in group if chosen[position] is kind]
            pieces += cut(own, batch_size)
    return pieces


@torch.no_grad()
def _answer_batch(
    model: CremaModel,
    batch: TrainBatch,
    settings: EvaluationSettings,
    judge: Judge,
    known: tuple[FeatureCache | None, Window],
    fusion: Fusion,
) -> list[Prediction]:
    """Answer the questions of a batch of prepared modalities and judge the answers."""
    if len(batch) == 0:  # fewer questions than processes
        return []
    features = encode_batch(model, known[0], batch, known[1])
    templates = judge.templates(model.template) if settings.prompts == "dataset" else {}
    texts = [templates.get(own.dataset, model.template).render(own.question, own.choices) for own in batch.records]
    keys = {name: [batch.records[row].paths(name) for row in own.rows.tolist()] for name, own in features.items()}
    found = predict(
        model,
        QuestionBatch(texts, [record.choices for record in batch.records], features, keys),
        max_new_tokens=settings.max_new_tokens,
        num_beams=settings.num_beams,
        fusion=fusion,
    )
    return [
        Prediction(
            id=record.id,
            type=record.type,
            question=record.question,
            answer=record.answer,
            prediction=one.text,
            correct=not one.tied and one.text == record.answer if record.choices else judge.is_right(record, one.text),
            modalities=one.used,
            num_tokens=one.num_tokens,
            clip=clip_of(record),
            dataset=record.dataset,
            answers=record.accepted,
            chosen=bool(record.choices),
            tied=one.tied,
            extras=one.extras,
        )
        for record, one in zip(batch.records, found, strict=True)
    ]
