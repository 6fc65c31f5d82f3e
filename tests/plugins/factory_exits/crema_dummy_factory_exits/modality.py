"""Ends the program when it is made, and when it prepares."""

from __future__ import annotations

import torch
from torch import Tensor

from crema_core.modality import Batch, BuildContext, Features, Modality, Sample
from crema_core.plugins.spec import ModalityOptions


class RefusesModality(Modality):
    """Exits."""

    def __init__(self, options: ModalityOptions, context: BuildContext) -> None:
        super().__init__(options, context)
        raise SystemExit("no dongle found")

    def prepare(self, source: Tensor) -> Sample:
        return Sample({"rows": source})

    def encode(self, batch: Batch) -> Features:
        return Features(batch["rows"][:, :, None], batch.mask)

    def example(self, generator: torch.Generator) -> Tensor:
        return torch.rand(2, 8, generator=generator)
