"""Prints when it is imported and when it is made."""

from __future__ import annotations

import torch
from torch import Tensor

from crema_core.modality import Batch, BuildContext, Features, Modality, Sample
from crema_core.plugins.spec import ModalityOptions

print("hello from the class's module")


class ChattyModality(Modality):
    """Prints."""

    def __init__(self, options: ModalityOptions, context: BuildContext) -> None:
        super().__init__(options, context)
        print("hello from __init__")

    def prepare(self, source: Tensor) -> Sample:
        return Sample({"rows": source})

    def encode(self, batch: Batch) -> Features:
        return Features(batch["rows"][:, :, None], batch.mask)

    def example(self, generator: torch.Generator) -> Tensor:
        return torch.rand(2, 8, generator=generator)
