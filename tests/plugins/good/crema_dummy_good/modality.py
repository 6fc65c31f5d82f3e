"""A modality that works: rows of a short recording, through a fixed random projection."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from crema_core.modality import Batch, BuildContext, Features, Modality, Sample
from crema_dummy_good.plugin import GoodOptions


class GoodModality(Modality):
    """Takes `(T, 3)` tensors."""

    options: GoodOptions

    def __init__(self, options: GoodOptions, context: BuildContext) -> None:
        super().__init__(options, context)
        self.projection = nn.Linear(3, self.feature_dim)

    def prepare(self, source: Tensor) -> Sample:
        return Sample({"rows": source[: self.options.frames]})

    def encode(self, batch: Batch) -> Features:
        return Features(self.projection(batch["rows"])[:, :, None], batch.mask)

    def example(self, generator: torch.Generator) -> Tensor:
        return torch.rand(self.options.frames, 3, generator=generator)
