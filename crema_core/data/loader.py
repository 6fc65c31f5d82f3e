"""Batches in a given order, prepared by worker processes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial

import torch
from torch.utils.data import DataLoader

from crema_core.data.collate import TrainBatch, collate
from crema_core.data.dataset import Key, SenseDataset
from crema_core.errors import MediaError


def load_batches(
    dataset: SenseDataset, batches: Sequence[Sequence[Key]], *, num_workers: int = 0, seed: int = 0
) -> Iterator[TrainBatch]:
    """Yield one batch per entry of `batches`, in that order.

    Args:
        dataset: what prepares the samples.
        batches: keys (epoch, index) of each batch.
        num_workers: worker processes; 0 prepares in this one.
        seed: of the workers; a generator of its own, so that the global random state is not touched.

    Raises:
        MediaError: when a source cannot be read, naming the sample.
    """
    loader = DataLoader(
        dataset,
        batch_sampler=[list(batch) for batch in batches],
        collate_fn=partial(collate, modalities=dataset.modalities),
        num_workers=num_workers,
        generator=torch.Generator().manual_seed(seed),
    )
    for batch in loader:
        if isinstance(batch, MediaError):
            raise batch
        yield batch
