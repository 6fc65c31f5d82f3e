"""A few optimizer steps on a small model, outside the trainer."""

from __future__ import annotations

import torch

from crema_core.api.model import CremaModel
from crema_core.features.feature_cache import prepare_batch
from crema_core.model.trainable import names_of, set_trainable

_GENERATOR = torch.Generator().manual_seed(0)
SOURCES = {
    "main": torch.randn(2, 3, 16, 16, generator=_GENERATOR),
    "wave": torch.randn(2, 3, 10, generator=_GENERATOR),
    "points": torch.randn(4, 6, generator=_GENERATOR),
}


def train_a_little(model: CremaModel, *, num_steps: int = 6) -> list[float]:
    """Train all modalities on two samples, one of them with a single modality; returns the losses."""
    parameters = list(model.trainable_parameters().values())
    set_trainable(model, names_of(model, parameters))
    optimizer = torch.optim.AdamW(parameters, lr=0.02)
    questions = ["What is it?", "Is it left or right?"]
    features = model.encode(prepare_batch(model, [SOURCES, {"main": SOURCES["main"]}]))
    losses = []
    for _ in range(num_steps):
        loss = model.loss(model.tokens(features, questions), questions, ["red", "left"])
        losses.append(loss.item())
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    return losses
