"""Modalities of the kit's own, beside which what is tested must change nothing: rows of eight numbers."""

from __future__ import annotations

import torch
from torch import Tensor

from crema_core.errors import MediaError
from crema_core.modality import Batch, Features, Modality, Sample
from crema_core.plugins.spec import Capabilities, InputSpec, ModalityOptions, ModalitySpec

WIDTH = 8

COMPANION = ModalitySpec(
    name="kit_companion",
    summary="Rows of numbers, for checks.",
    factory="crema_core.testing.companion:CompanionModality",
    options=ModalityOptions,
    test_options=(ModalityOptions(),),
    inputs=(InputSpec(kind="array", description="(T, 8) float"),),
    encoder="features",
    feature_dim=WIDTH,
    prefix="Companion: ",
)


class CompanionModality(Modality):
    """Takes tensors `(T, 8)`; one token per step."""

    spec = COMPANION

    def prepare(self, source: object) -> Sample:
        """Take the rows as they are."""
        if not isinstance(source, Tensor):
            raise MediaError(f"{source!r} is no tensor. Accepted is (T, {WIDTH}). Pass torch.rand(4, {WIDTH}).")
        return Sample({"rows": source})

    def encode(self, batch: Batch) -> Features:
        """Return `(B, T, 1, 8)`."""
        return Features(batch["rows"][:, :, None], batch.mask)

    def example(self, generator: torch.Generator) -> Tensor:
        """Return `(3, 8)` numbers in 0..1."""
        return torch.rand(3, WIDTH, generator=generator)


CLOCKED = COMPANION.model_copy(
    update={
        "name": "kit_clocked",
        "factory": "crema_core.testing.companion:ClockedModality",
        "prefix": "Clocked: ",
        "capabilities": Capabilities(timestamps=True),
    }
)
"""The same with a clock: half a second for every row."""


class ClockedModality(CompanionModality):
    """Takes tensors `(T, 8)`; one token per step, each with its time."""

    spec = CLOCKED

    def prepare(self, source: object) -> Sample:
        """Take the rows as they are, half a second each."""
        sample = super().prepare(source)
        start = torch.arange(len(sample.tensors["rows"])) / 2
        return Sample(sample.tensors, torch.stack([start, start + 0.5], dim=1))

    def encode(self, batch: Batch) -> Features:
        """Return `(B, T, 1, 8)` with the times of the steps."""
        return Features(batch["rows"][:, :, None], batch.mask, batch.times)
