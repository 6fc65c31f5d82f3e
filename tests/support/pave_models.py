"""What tests of PAVE on several backbones share."""

from __future__ import annotations

import torch
from torch import Tensor

from crema_core.api.model import CremaModel

CHOICES = ["red", "blue"]


def side_example(name: str, seed: int) -> Tensor:
    """Return a source of the test modalities `wave` or `points`."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(5, 3, 10, generator=generator) if name == "wave" else torch.randn(4, 6, generator=generator)


def scores_of(model: CremaModel, sources: dict[str, Tensor]) -> list[float]:
    """Return the log-probabilities of the choices."""
    return list(model.answer("what colour ?", CHOICES, **sources).scores.values())


def randomized(model: CremaModel) -> CremaModel:
    """Move everything trainable away from its start, as training would, and return the model."""
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for parameter in model.trainable_parameters().values():
            parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.3)
    return model
