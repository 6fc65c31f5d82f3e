"""Rows of three numbers, one step each, a second long."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn

from crema_core.errors import MediaError
from crema_core.modality import Batch, BuildContext, Features, Modality, Sample
from crema_specimen.plugin import SpecimenOptions


class SpecimenModality(Modality):
    """Takes `(T, 3)` tensors."""

    options: SpecimenOptions

    def __init__(self, options: SpecimenOptions, context: BuildContext) -> None:
        super().__init__(options, context)
        generator = torch.Generator().manual_seed(0)
        self.weight = nn.Parameter(torch.randn(3, 8, generator=generator))

    def prepare(self, source: object) -> Sample:
        if isinstance(source, str | Path):
            raise MediaError(f"{source} cannot be read. A recording is a tensor. Load it first.")
        if not isinstance(source, Tensor):
            raise MediaError(f"{source!r} cannot be read. A recording is a tensor (T, 3). Pass one.")
        rows = source[: self.options.rows].clone()
        ends = torch.arange(1, len(rows) + 1).float()
        return Sample({"rows": rows}, torch.stack([ends - 1, ends], dim=1))

    def encode(self, batch: Batch) -> Features:
        rows = batch["rows"]
        values = torch.tanh(rows @ self.weight) * self.options.gain
        return Features(values[:, :, None], batch.mask, batch.times)

    def example(self, generator: torch.Generator) -> Tensor:
        return torch.randn(5, 3, generator=generator)
