"""Features of one source without padding: what a cache keeps, and how a batch is made of several.

Shape letters: R sources, T steps, N tokens of a step, D feature width.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from crema_core.modality import Features


class StoredFeatures(NamedTuple):
    """Features of one source on the CPU, without padding.

    Attributes:
        values: `(T, N, D)`, perhaps rounded to a smaller number format.
        mask: `(T,)` or `(T, N)` bool.
        times: `(T, 2)` seconds, or None.
        encoded: number format the encoder returned, in which batches are handed out.
    """

    values: Tensor
    mask: Tensor
    times: Tensor | None
    encoded: torch.dtype

    @property
    def num_bytes(self) -> int:
        """Bytes the tensors take."""
        return self.values.nbytes + self.mask.nbytes + (0 if self.times is None else self.times.nbytes)


def split(features: Features, *, dtype: torch.dtype | None) -> list[StoredFeatures]:
    """Cut the features of R sources to each one's own length.

    Args:
        features: padded, as an encoder returned them.
        dtype: number format to keep; None: as encoded.
    """
    encoded = features.values.dtype
    values_RTND = features.values.to(dtype or encoded).cpu()
    mask = features.mask.cpu()
    times = None if features.times is None else features.times.cpu()
    return [
        _cut(values_RTND[row], mask[row], None if times is None else times[row], encoded)
        for row in range(len(values_RTND))
    ]


def pad(entries: Sequence[StoredFeatures], *, device: torch.device) -> Features:
    """Return the features of R sources as one batch, padded with zeros.

    Times are there when a source has them, NaN for the others; the mask is of tokens where any source needs that.
    """
    steps = max(entry.values.shape[0] for entry in entries)
    tokens = max(entry.values.shape[1] for entry in entries)
    width = entries[0].values.shape[2]
    # A mask of steps is enough as long as all sources have equally many tokens in a step.
    per_token = any(entry.mask.dim() == 2 or entry.values.shape[1] != tokens for entry in entries)
    values_RTND = torch.zeros(len(entries), steps, tokens, width, dtype=entries[0].encoded)
    mask = torch.zeros(values_RTND.shape[:3] if per_token else values_RTND.shape[:2], dtype=torch.bool)
    clocked = any(entry.times is not None for entry in entries)
    times_RT2 = torch.zeros(len(entries), steps, 2) if clocked else None
    for row, entry in enumerate(entries):
        t, n, _ = entry.values.shape
        values_RTND[row, :t, :n] = entry.values
        if per_token:
            mask[row, :t, :n] = entry.mask if entry.mask.dim() == 2 else entry.mask[:, None]
        else:
            mask[row, :t] = entry.mask
        if times_RT2 is not None:
            times_RT2[row, :t] = torch.nan if entry.times is None else entry.times
    return Features(values_RTND.to(device), mask.to(device), None if times_RT2 is None else times_RT2.to(device))


def _cut(values_TND: Tensor, mask: Tensor, times_T2: Tensor | None, encoded: torch.dtype) -> StoredFeatures:
    steps = mask if mask.dim() == 1 else mask.any(1)
    t = int(steps.nonzero().max()) + 1
    # Clones, because a view would keep the whole padded batch in memory.
    times = None if times_T2 is None or bool(times_T2[:t].isnan().all()) else times_T2[:t].clone()
    if mask.dim() == 1:
        return StoredFeatures(values_TND[:t].clone(), mask[:t].clone(), times, encoded)
    n = int(mask.any(0).nonzero().max()) + 1
    return StoredFeatures(values_TND[:t, :n].clone(), mask[:t, :n].clone(), times, encoded)
