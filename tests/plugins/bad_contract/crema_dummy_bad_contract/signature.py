"""A class with another signature than the contract's; defining it fails."""

from __future__ import annotations

from crema_core.modality import Modality, Sample


class WrongSignature(Modality):
    """Takes one argument too many."""

    def prepare(self, source: object, frames: int) -> Sample:
        return Sample({})
