"""What travels between the model's parts: prepared, encoded and projected senses of one batch.

A batch holds, for every sense, only the samples that have it; `rows` says which. A sense that no sample has is absent
from the mapping, so nothing is computed for it and nothing depends on it.

Shape letters: B samples of the batch, R of them that have the sense, T steps, Q queries, L language-model width.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from crema_core.modality import Batch, Features


class SenseBatch(NamedTuple):
    """Prepared sources of one sense.

    Attributes:
        batch: R prepared and padded sources.
        rows: `(R,)` int64, the samples they belong to.
    """

    batch: Batch
    rows: Tensor

    def to(self, device: torch.device) -> SenseBatch:
        """Return the same on `device`."""
        return SenseBatch(self.batch.to(device), self.rows.to(device))


class SenseFeatures(NamedTuple):
    """Output of one frozen encoder.

    Attributes:
        features: R samples, see `Features`.
        rows: `(R,)` int64.
    """

    features: Features
    rows: Tensor


class SenseTokens(NamedTuple):
    """One sense in the language model's space, before fusion.

    Attributes:
        values: `(R, T, Q, L)`.
        mask: `(R, T)` bool, real steps.
        rows: `(R,)` int64.
        times: `(R, T, 2)` seconds, or None.
    """

    values: Tensor
    mask: Tensor
    rows: Tensor
    times: Tensor | None = None

    def detach(self) -> SenseTokens:
        """Return the tokens without their graph."""
        return self._replace(values=self.values.detach())


class Segment(NamedTuple):
    """A stretch of the prompt, as a fusion lays it out.

    Attributes:
        values: `(B, T, K, L)`, K tokens at each of T steps.
        mask: `(B, T)` bool, False where a sample has no such step, or `(B, T, K)` where it lacks some of the tokens.
        prefix: text before every step if it contains `{index}`, else once before the first; None for no prefix.
        prefixes_first: put the prefixes of all steps in one block before the tokens (the released code's layout of
            fused tokens) instead of each before its own step.
    """

    values: Tensor
    mask: Tensor
    prefix: str | None
    prefixes_first: bool = False
