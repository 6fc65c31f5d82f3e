"""Records as prepared samples, one sense at a time; this is what runs in DataLoader workers.

An item is asked for by (epoch, index), not by index alone, so that modality dropout is a function of the position and
workers need not be told when an epoch begins.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from torch.utils.data import Dataset

from crema_core.data.manifest import Record
from crema_core.data.order import kept_senses
from crema_core.errors import MediaError
from crema_core.modality import Modality, Sample

Key = tuple[int, int]
"""Epoch and index of the record."""


@dataclass(frozen=True)
class Item:
    """One sample of a batch to be.

    Attributes:
        record: the line it comes from.
        senses: the senses it has and keeps, in the model's order.
        samples: prepared sources of those senses whose features are not in a cache.
        problem: why a source could not be read, empty when all could. Carried instead of raised, because a worker's
            exception arrives in the main process as a stack trace.
    """

    record: Record
    senses: tuple[str, ...]
    samples: dict[str, Sample]
    problem: str = ""


class SenseDataset(Dataset[Item]):
    """Map-style data set over records.

    Args:
        records: the samples.
        modalities: the senses to use, by name, in the model's order.
        major: name of the major sense.
        seed: of the run, for modality dropout.
        dropout: probability with which a supporting sense of a sample is left out.
        drop_major: whether the major sense is dropped too.
        cached: senses whose sources need not be prepared, because their features are known already.
    """

    def __init__(
        self,
        records: Sequence[Record],
        modalities: Mapping[str, Modality],
        *,
        major: str,
        seed: int = 0,
        dropout: float = 0.0,
        drop_major: bool = False,
        cached: Collection[str] = (),
    ) -> None:
        self.records, self.modalities, self.major = records, dict(modalities), major
        self.seed, self.dropout, self.drop_major, self.cached = seed, dropout, drop_major, frozenset(cached)

    def __len__(self) -> int:
        return len(self.records)

    def __getitem__(self, key: Key) -> Item:
        epoch, index = key
        record = self.records[index]
        senses = kept_senses(
            [name for name in self.modalities if name in record.sources],
            seed=self.seed,
            epoch=epoch,
            index=index,
            dropout=self.dropout,
            major=self.major,
            drop_major=self.drop_major,
        )
        try:
            samples = {
                name: self.modalities[name].prepare(record.sources[name]) for name in senses if name not in self.cached
            }
        except MediaError as error:
            return Item(record, senses, {}, problem=f"Sample '{record.id}' (line {record.line}): {error}")
        return Item(record, senses, samples)
