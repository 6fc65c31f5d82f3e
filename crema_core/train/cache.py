"""Features of frozen encoders, kept in memory: an encoder runs once per file, whatever the number of epochs.

Legal because encoders never train and `prepare` is deterministic (a sense that declares otherwise is not kept).
Evaluating many sets of senses with one cache costs only the passes after the encoders.

Shape letters: R samples of a batch, T steps, N tokens of a step, D feature width.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from crema_core.data.collate import TrainBatch
from crema_core.modality import Features
from crema_core.model.crema import CremaModel
from crema_core.model.tokens import SenseFeatures

Key = tuple[str, ...]
"""Sense and the files of one source."""


class StoredFeatures(NamedTuple):
    """Features of one source on the CPU, without padding.

    Attributes:
        values: `(T, N, D)`.
        mask: `(T,)` or `(T, N)` bool.
        times: `(T, 2)` seconds, or None.
    """

    values: Tensor
    mask: Tensor
    times: Tensor | None


class FeatureCache:
    """In-memory features of one model's encoders.

    Args:
        model: whose encoders the features come from; another model's features would be wrong.
        dtype: number format of what is kept; None: as encoded. Features are handed out as they were encoded.
        limit_bytes: memory the features may take; filling stops with an error when it is clear they will not fit.
    """

    def __init__(
        self, model: CremaModel, *, dtype: torch.dtype | None = None, limit_bytes: float = float("inf")
    ) -> None:
        self.model, self.dtype, self.limit_bytes = model, dtype, limit_bytes
        self.num_bytes = 0
        self._entries: dict[Key, StoredFeatures] = {}
        self._encoded_dtype: dict[str, torch.dtype] = {}

    def __contains__(self, key: Key) -> bool:
        return key in self._entries

    def __len__(self) -> int:
        return len(self._entries)

    def put(self, name: str, paths: Sequence[tuple[str, ...]], features: Features) -> None:
        """Keep the features of R sources of one sense, cut to each one's own length."""
        values_RTND, mask, times = features
        self._encoded_dtype[name] = values_RTND.dtype
        values_RTND = values_RTND.to(self.dtype or values_RTND.dtype).cpu()
        mask = mask.cpu()
        for row, own in enumerate(paths):
            entry = _cut(values_RTND[row], mask[row], None if times is None else times[row].cpu())
            self._entries[(name, *own)] = entry
            self.num_bytes += sum(part.nbytes for part in entry if part is not None)

    def entry(self, key: Key) -> tuple[StoredFeatures, torch.dtype]:
        """Return what is kept of one source, and the number format it was encoded in."""
        return self._entries[key], self._encoded_dtype[key[0]]

    def adopt(self, key: Key, stored: StoredFeatures, *, dtype: torch.dtype) -> None:
        """Keep what another process's cache returned from `entry`."""
        self._encoded_dtype[key[0]] = dtype
        self._entries[key] = stored
        self.num_bytes += sum(part.nbytes for part in stored if part is not None)

    def gather(self, name: str, paths: Sequence[tuple[str, ...]]) -> Features:
        """Return the features of R sources of one sense as one padded batch, on the model's device."""
        entries = [self._entries[(name, *own)] for own in paths]
        steps = max(entry.values.shape[0] for entry in entries)
        tokens = max(entry.values.shape[1] for entry in entries)
        width = entries[0].values.shape[2]
        # A mask of steps is enough as long as all sources have equally many tokens in a step.
        per_token = any(entry.mask.dim() == 2 or entry.values.shape[1] != tokens for entry in entries)
        values_RTND = torch.zeros(len(entries), steps, tokens, width, dtype=self._encoded_dtype[name])
        mask = torch.zeros(values_RTND.shape[:3] if per_token else values_RTND.shape[:2], dtype=torch.bool)
        clocks = [entry.times for entry in entries if entry.times is not None]
        times_RT2 = torch.zeros(len(entries), steps, 2) if len(clocks) == len(entries) else None
        for row, entry in enumerate(entries):
            t, n, _ = entry.values.shape
            values_RTND[row, :t, :n] = entry.values
            if per_token:
                mask[row, :t, :n] = entry.mask if entry.mask.dim() == 2 else entry.mask[:, None]
            else:
                mask[row, :t] = entry.mask
            if times_RT2 is not None:
                times_RT2[row, :t] = clocks[row]
        device = self.model.device
        return Features(values_RTND.to(device), mask.to(device), None if times_RT2 is None else times_RT2.to(device))

    def features(self, batch: TrainBatch) -> dict[str, SenseFeatures]:
        """Return the features of the senses of a batch that were not prepared because they are kept here."""
        return {
            name: SenseFeatures(
                self.gather(name, [batch.records[row].paths(name) for row in rows.tolist()]),
                rows.to(self.model.device),
            )
            for name, rows in batch.present.items()
            if name not in batch.senses
        }


def _cut(values_TND: Tensor, mask: Tensor, times_T2: Tensor | None) -> StoredFeatures:
    steps = mask if mask.dim() == 1 else mask.any(1)
    t = int(steps.nonzero().max()) + 1
    # Clones, because a view would keep the whole padded batch in memory.
    times = None if times_T2 is None else times_T2[:t].clone()
    if mask.dim() == 1:
        return StoredFeatures(values_TND[:t].clone(), mask[:t].clone(), times)
    n = int(mask.any(0).nonzero().max()) + 1
    return StoredFeatures(values_TND[:t, :n].clone(), mask[:t, :n].clone(), times)
