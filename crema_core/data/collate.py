"""Items -> one training batch, sense by sense."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from crema_core.data.dataset import Item
from crema_core.data.manifest import Record
from crema_core.errors import MediaError
from crema_core.modality import Modality
from crema_core.tokens import SenseBatch


@dataclass(frozen=True)
class TrainBatch:
    """Samples of one minibatch, on the CPU.

    Attributes:
        records: B samples.
        present: for every sense in the batch `(R,)` int64, ascending, the samples that have it.
        senses: the prepared ones of these senses; the features of the others come from a cache.
    """

    records: tuple[Record, ...]
    present: dict[str, Tensor]
    senses: dict[str, SenseBatch]

    @property
    def ids(self) -> tuple[str, ...]:
        """Names of the samples, for messages."""
        return tuple(record.id for record in self.records)

    def __len__(self) -> int:
        return len(self.records)


def collate(items: Sequence[Item], *, modalities: Mapping[str, Modality]) -> TrainBatch | MediaError:
    """Make a batch, or return the error of the first item that could not be read.

    Args:
        items: B items.
        modalities: the senses, by name, in the model's order.
    """
    for item in items:
        if item.problem:
            return MediaError(item.problem)
    rows = {name: [row for row, item in enumerate(items) if name in item.senses] for name in modalities}
    present = {name: torch.tensor(own, dtype=torch.int64) for name, own in rows.items() if own}
    senses = {}
    for name, own in present.items():
        samples = [item.samples[name] for item in items if name in item.samples]
        if samples:
            senses[name] = SenseBatch(modalities[name].collate(samples), own)
    return TrainBatch(tuple(item.record for item in items), present, senses)
