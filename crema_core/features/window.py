"""Features of the sources met last: what several questions ask about is read and encoded once, without a cache.

Worker processes read ahead, so they are told which samples find their features here. That follows from the order of the
samples alone: `Window.plan` goes through all batches before the first is read, and `Window.complete` through the same
ones when they are encoded, with the same rule for what is forgotten.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from torch import Tensor

from crema_core.data.data_file import Record
from crema_core.data.dataset import Key, ModalityDataset, TrainBatch
from crema_core.features.cache.store import StoredFeatures, pad, split
from crema_core.features.deduplicate import sharing, spread_features
from crema_core.tokens import ModalityFeatures

Paths = tuple[str, ...]


class Window:
    """Features of one model's encoders, of the sources of the current batch and of some before it.

    Args:
        names: modalities whose features are kept; their encoders are frozen and their reading is deterministic, see
            `cacheable`.
        num_sources: how many sources of each modality are kept from one batch to the next: of those that are needed
            again the ones used last. Each takes `T * N * D` numbers on the model's device.
    """

    def __init__(self, names: Iterable[str], *, num_sources: int) -> None:
        self.names, self.num_sources = tuple(names), num_sources
        self._kept: dict[str, dict[Paths, StoredFeatures]] = {name: {} for name in self.names}
        self._uses: dict[str, Counter[Paths]] = {name: Counter() for name in self.names}

    def plan(self, dataset: ModalityDataset, batches: Sequence[Sequence[Key]]) -> list[list[Key]]:
        """Return the same keys, each with the modalities whose features another sample brings.

        Args:
            dataset: where the keys lead.
            batches: all that will come through `complete`, in that order.
        """
        needed = [self._needed(dataset, batch) for batch in batches]
        for own in needed:
            for name, sources in own.items():
                self._uses[name].update(set(sources.values()))
        left = {name: uses.copy() for name, uses in self._uses.items()}
        recent: dict[str, dict[Paths, None]] = {name: {} for name in self.names}
        planned = []
        for batch, own in zip(batches, needed, strict=True):
            held: list[list[str]] = [[] for _ in batch]
            for name, sources in own.items():
                here = set(recent[name])
                for position, source in sources.items():
                    if source in here:
                        held[position].append(name)
                    here.add(source)
                self._use(recent[name], dict.fromkeys(sources.values()), left[name])
            planned.append([key._replace(held=tuple(names)) for key, names in zip(batch, held, strict=True)])
        return planned

    def complete(self, batch: TrainBatch, encoded: Mapping[str, ModalityFeatures]) -> dict[str, ModalityFeatures]:
        """Return the features of all rows of a batch.

        Args:
            batch: read as planned.
            encoded: features of the rows that were read.
        """
        found = dict(encoded)
        for name in self.names:
            if name not in batch.present:
                continue
            rows, kept, uses = batch.present[name], self._kept[name], self._uses[name]
            sources = _sources(batch, name, rows)
            read = _sources(batch, name, encoded[name].rows) if name in encoded else []
            place = {source: position for position, source in enumerate(read)}
            from_before = any(source not in place for source in sources)
            entries = dict(kept)
            if from_before or (self.num_sources and any(uses[source] > 1 for source in read)):
                cut_out = split(encoded[name].features, dtype=None, keeps_device=True) if read else []
                entries |= dict(zip(read, cut_out, strict=True))
            if from_before:
                found[name] = _joined([entries[source] for source in sources], sources, rows)
            else:
                own = encoded[name]
                found[name] = spread_features(own, [place[source] for source in sources], rows.to(own.rows.device))
            self._use(kept, {source: entries.get(source) for source in sources}, uses)
        return found

    def _needed(self, dataset: ModalityDataset, batch: Sequence[Key]) -> dict[str, dict[int, Paths]]:
        """Return for each modality the sources of the batch's samples that keep it, by their position."""
        found: dict[str, dict[int, Paths]] = {}
        for position, key in enumerate(batch):
            for name in dataset.kept(key):
                if name in self.names:
                    found.setdefault(name, {})[position] = dataset.records[key.sample].paths(name)
        return found

    def _use(self, recent: dict[Paths, Any], used: Mapping[Paths, Any], left: Counter[Paths]) -> None:
        """Put the sources of a batch last; forget those that no later batch needs, and then those used longest ago."""
        for source, own in used.items():
            recent.pop(source, None)
            left[source] -= 1
            if left[source] > 0:
                recent[source] = own
        for source in list(recent)[: max(len(recent) - self.num_sources, 0)]:
            del recent[source]


def _sources(batch: TrainBatch, name: str, rows: Tensor) -> list[Paths]:
    return [batch.records[row].paths(name) for row in rows.tolist()]


def _joined(entries: Sequence[StoredFeatures], paths: Sequence[Paths], rows: Tensor) -> ModalityFeatures:
    same = sharing(paths)
    device = entries[0].values.device
    few = pad([entries[first] for first in same.firsts], device=device)
    rows = rows.to(device)
    return spread_features(ModalityFeatures(few, rows[same.firsts]), same.owner, rows)


def by_source(records: Sequence[Record], names: Sequence[str]) -> list[list[int]]:
    """Return the positions of the records about each source, sources and records in their order.

    Args:
        records: samples.
        names: modalities in the model's order; a sample belongs to the first of its sources.
    """
    groups: dict[tuple[str, Paths] | int, list[int]] = {}
    for position, record in enumerate(records):
        sources = ((name, record.paths(name)) for name in names if record.paths(name))
        groups.setdefault(next(sources, position), []).append(position)
    return list(groups.values())
