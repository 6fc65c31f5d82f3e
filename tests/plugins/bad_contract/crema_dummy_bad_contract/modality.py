"""Classes that break the contract, one way each."""

from __future__ import annotations

import torch

from crema_core.modality import Batch, Features, Modality, Sample


class Incomplete(Modality):
    """Has no encode and no example."""

    def prepare(self, source: object) -> Sample:
        return Sample({})


class NotAModality:
    """Is no Modality."""


class Shared(Modality):
    """Named by two specs."""

    def prepare(self, source: object) -> Sample:
        return Sample({})

    def encode(self, batch: Batch) -> Features:
        return Features(batch["rows"], batch.mask)

    def example(self, generator: torch.Generator) -> object:
        return torch.rand(1, generator=generator)
