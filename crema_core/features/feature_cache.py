"""Features of frozen encoders, kept in memory or in a folder: an encoder runs once per file, not once per epoch.

Legal because encoders never train and `prepare` is deterministic (a modality that declares otherwise is not kept).
Evaluating many sets of modalities with one cache costs only the passes after the encoders; with a folder, the next run
and the next process need no encoder at all.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

import torch

from crema_core.common.known import to_device
from crema_core.data import modality_calls
from crema_core.data.data_file import Source
from crema_core.data.dataset import TrainBatch
from crema_core.data.reuse import one_sample
from crema_core.errors import OptionsError
from crema_core.features.cache.keys import encoder_identity
from crema_core.features.cache.store import DiskCache, FeatureStore, StoredFeatures, pad, split
from crema_core.modality import Features, Sample
from crema_core.model.network import CremaNetwork
from crema_core.model.precision import computed_in
from crema_core.tokens import ModalityBatch, ModalityFeatures

Files = str | tuple[str, ...]
"""The file or files of one source, as a key."""


class FeatureCache:
    """Features of one model's encoders.

    Args:
        model: whose encoders the features come from; another model's features would be wrong.
        dtype: number format of what is kept; None: as encoded. Features are handed out as they were encoded.
        limit_bytes: memory the features may take; filling stops with an error when it is clear they will not fit.
        disk: where they are kept; None: in memory. What no longer fits there stays in memory.
    """

    def __init__(
        self,
        model: CremaNetwork,
        *,
        dtype: torch.dtype | None = None,
        limit_bytes: float = float("inf"),
        disk: DiskCache | None = None,
    ) -> None:
        self.model, self.dtype, self.limit_bytes, self.disk = model, dtype, limit_bytes, disk
        self._entries: dict[tuple[str, Files], StoredFeatures] = {}
        self._num_bytes = 0
        self._stores: dict[tuple[str, str], FeatureStore] = {}

    def __len__(self) -> int:
        return len(self._entries) + sum(len(store) for store in self._stores.values())

    @property
    def num_bytes(self) -> int:
        """Memory the features take; mapped files belong to the system."""
        return self._num_bytes + sum(store.unwritten_bytes for store in self._stores.values())

    @property
    def written_bytes(self) -> int:
        """Size of what this process wrote to the disk."""
        return sum(store.written_bytes for store in self._stores.values())

    def num_unwritten(self, name: str) -> int:
        """Return for how many sources of a modality the features are not on disk yet, or cannot be written."""
        return len(self._entries) if self.disk is None else len(self._store(name).unwritten)

    @property
    def in_memory(self) -> bool:
        """Whether new features stay in memory, because there is no folder or it is full."""
        return self.disk is None or self.disk.full

    def has(self, name: str, source: Source) -> bool:
        """Return whether the features of a source of one modality are here."""
        if self.disk is None:
            return (name, _files(source)) in self._entries
        return self.disk.files.of(source) in self._store(name)

    def content(self, source: Source) -> object:
        """Return what sources of equal content have in common; in memory, their paths."""
        return _files(source) if self.disk is None else self.disk.files.of(source)

    def look(self, name: str, sources: Sequence[Source], *, num_threads: int = 1) -> None:
        """Find out which of these are in the folder, also by the hand of other processes; files are read in threads."""
        if self.disk is not None:
            self.disk.files.prepare(sources, num_threads=num_threads)
            self._store(name).scan()

    def put(self, name: str, sources: Sequence[Source], features: Features) -> None:
        """Keep the features of R sources of one modality, cut to each one's own length."""
        for source, entry in zip(sources, split(features, dtype=self.dtype), strict=True):
            if self.disk is not None:
                self._store(name).add(self.disk.files.of(source), entry)
            else:
                self.insert(name, source, entry)

    def entry(self, name: str, source: Source) -> StoredFeatures:
        """Return what memory holds of one source."""
        return self._entries[name, _files(source)]

    def insert(self, name: str, source: Source, stored: StoredFeatures) -> None:
        """Keep in memory what another process's cache returned from `entry`."""
        self._entries[name, _files(source)] = stored
        self._num_bytes += stored.num_bytes

    def flush(self) -> None:
        """Bring to the disk what is not there yet."""
        for store in self._stores.values():
            store.flush()

    def gather(self, name: str, sources: Sequence[Source]) -> Features:
        """Return the features of R sources of one modality as one padded batch, on the model's device.

        What was damaged or removed since the cache was filled is encoded anew.
        """
        return pad([self._get(name, source) for source in sources], device=self.model.device)

    def features(self, batch: TrainBatch) -> dict[str, ModalityFeatures]:
        """Return the features of the modalities of a batch that were not prepared because they are kept here."""
        return {
            name: ModalityFeatures(
                self.gather(name, [batch.records[row].sources[name] for row in rows.tolist()]),
                to_device(rows, self.model.device),
            )
            for name, rows in batch.present.items()
            if name not in batch.modalities
        }

    def will_need(self, batch: TrainBatch) -> None:
        """Let the system read a batch's features from the folder while something else is computed."""
        for name, rows in batch.present.items():
            if self.disk is not None and name not in batch.modalities:
                for row in rows.tolist():
                    self._store(name).will_need(self.disk.files.of(batch.records[row].sources[name]))

    def _get(self, name: str, source: Source) -> StoredFeatures:
        if self.disk is None:
            return self._entries[name, _files(source)]
        store, digest = self._store(name), self.disk.files.of(source)
        found = store.get(digest)
        if found is None:
            self._encode(name, source)
            store.flush()
            found = store.get(digest)
        assert found is not None, "features just encoded are there"
        return found

    def _encode(self, name: str, source: Source) -> None:
        self.put(name, [source], self.model.encode(prepare_batch(self.model, [{name: source}]))[name].features)

    def _store(self, name: str) -> FeatureStore:
        # The same modality under another autocast is another encoder.
        key = (name, computed_in(self.model.device))
        if key not in self._stores:
            assert self.disk is not None, "only a cache with a folder has stores"
            self._stores[key] = self.disk.store(encoder_identity(self.model, name, kept=self.dtype))
        return self._stores[key]


def as_cache(model: CremaNetwork, cache: FeatureCache | str | os.PathLike[str] | None) -> FeatureCache | None:
    """Return a cache of this model: the one given, or one in the folder named.

    Raises:
        OptionsError: for a cache of another model.
        CacheError: when the folder cannot be a cache.
    """
    if isinstance(cache, str | os.PathLike):
        return FeatureCache(model, disk=DiskCache(cache))
    if cache is not None and cache.model is not model:
        raise OptionsError(
            "The feature cache belongs to another model. Features come from a model's own encoders. "
            "Make one with FeatureCache(model)."
        )
    return cache


def _files(source: Source) -> Files:
    return source if isinstance(source, str) else tuple(source)


def prepare_batch(model: CremaNetwork, sources: Sequence[Mapping[str, Any]]) -> dict[str, ModalityBatch]:
    """Read the sources of several samples into one batch per modality; modalities nobody has are absent.

    In this process; training reads through DataLoader workers instead.

    Raises:
        MediaError: when a source cannot be read.
        ContractError: when a modality raises or returns what it must not.
    """
    prepared: dict[str, list[Sample]] = {name: [] for name in model.names}
    for own in sources:
        read = [(name, model.branch(name).modality) for name in model.names if own.get(name) is not None]
        with one_sample([(modality, own[name]) for name, modality in read]):
            for name, modality in read:
                prepared[name].append(modality_calls.prepare(modality, own[name]))
    batches = {}
    for name, samples in prepared.items():
        rows = [index for index, own in enumerate(sources) if own.get(name) is not None]
        if rows:
            modality = model.branch(name).modality
            labels = tuple(modality_calls.name_source(sources[row][name]) for row in rows)
            batches[name] = ModalityBatch(modality_calls.collate(modality, samples, labels), torch.tensor(rows), labels)
    return batches
