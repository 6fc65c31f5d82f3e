"""Filling the cache: every file of every sense through its frozen encoder, once."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from crema_core.data.collate import TrainBatch
from crema_core.data.dataset import SenseDataset
from crema_core.data.loader import load_batches
from crema_core.data.manifest import Record
from crema_core.data.order import cut
from crema_core.errors import TrainingError
from crema_core.model.crema import CremaModel
from crema_core.model.tokens import SenseFeatures
from crema_core.train.cache import FeatureCache
from crema_core.train.progress import StatusLine


def cacheable(model: CremaModel, names: Sequence[str]) -> tuple[str, ...]:
    """Return the senses whose features may be kept: those that declare to be deterministic."""
    specs = model.specs
    return tuple(name for name in names if specs[name].capabilities.deterministic)


def fill_cache(
    cache: FeatureCache,
    records: Sequence[Record],
    *,
    names: Sequence[str],
    batch_size: int,
    num_workers: int = 0,
    status: StatusLine | None = None,
) -> None:
    """Encode the sources of `records` that the cache does not hold yet.

    Args:
        cache: is filled.
        records: samples; several may share a file.
        names: senses to encode, each `cacheable`.
        batch_size: sources per encoder pass.
        num_workers: processes that read media.
        status: where progress is shown.

    Raises:
        TrainingError: as soon as it is clear that the features will not fit.
        MediaError: when a source cannot be read.
    """
    model = cache.model
    for name in names:
        sources = [record for record in distinct(records, name) if (name, *record.paths(name)) not in cache]
        only = [replace(record, sources={name: record.sources[name]}) for record in sources]
        dataset = SenseDataset(only, {name: model.sense(name).modality}, major=name)
        start, done = cache.num_bytes, 0
        keys = cut([(0, index) for index in range(len(only))], batch_size)
        for batch in load_batches(dataset, keys, num_workers=num_workers):
            encoded = model.encode(batch.senses)[name]
            cache.put(name, [record.paths(name) for record in batch.records], encoded.features)
            done += len(batch)
            expected = start + (cache.num_bytes - start) / done * len(only)
            if expected > cache.limit_bytes:
                raise TrainingError(
                    f"The features of {len(only):,} sources of '{name}' need about {expected / 1e9:.3g} GB of memory "
                    f"together with those already kept, more than cache_limit_gb={cache.limit_bytes / 1e9:g}. "
                    'Raise cache_limit_gb, pass cache_precision="bf16" for half of it, or cache="none" to encode '
                    "every minibatch."
                )
            if status is not None:
                status.show(f"encoding {name}: {done:,} of {len(only):,} sources, {cache.num_bytes / 1e6:,.0f} MB kept")


def encode_batch(model: CremaModel, cache: FeatureCache | None, batch: TrainBatch) -> dict[str, SenseFeatures]:
    """Return the features of a batch, from the cache or the encoders, in the model's order."""
    found = model.encode(batch.senses) | ({} if cache is None else cache.features(batch))
    return {name: found[name] for name in batch.present}


def distinct(records: Sequence[Record], name: str) -> Iterator[Record]:
    """Yield the records that have a sense, one of those that share its files."""
    seen = set()
    for record in records:
        paths = record.paths(name)
        if paths and paths not in seen:
            seen.add(paths)
            yield record
