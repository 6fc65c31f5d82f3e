"""The sense in a model on the built-in tiny backbone: what the gold checks work on."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor

from crema_core.api.build import build
from crema_core.api.model import CremaModel
from crema_core.features.prepare import prepare_batch
from crema_core.model.trainable import names_of, set_trainable
from crema_core.testing.offline import offline
from crema_core.testing.subject import Subject
from crema_core.tokens import SenseBatch

QUESTION = "what is it ?"
CHOICES = ("red", "blue")
MAX_STEPS, LEARNING_RATE = 80, 3e-3
TOLD_APART = math.log(2) / 4
"""Loss below which two answers are told apart: half of what knowing the question alone can reach, ln 2 for the word
of an answer, nothing for the end of the text, on average over the two."""


def request(subject: Subject) -> dict[str, Any]:
    """Return what `build` takes for the sense with its first test options."""
    options = subject.cases[0]
    return {"name": subject.spec, **{name: getattr(options, name) for name in type(options).model_fields}}


def build_model(modalities: Sequence[Any], *, major: str | None = None) -> CremaModel:
    """Build a model on the tiny backbone, without network."""
    with offline():
        return build(modalities, major=major)


def build_own(subject: Subject) -> CremaModel:
    """Build a model of the sense alone."""
    return build_model([request(subject)])


def example(model: CremaModel, name: str, seed: int) -> Any:
    """Return a synthetic source of one of a model's senses."""
    return model.sense(name).modality.example(torch.Generator().manual_seed(seed))


def batches(model: CremaModel, name: str) -> dict[str, SenseBatch]:
    """Return a batch of two synthetic sources, one per choice."""
    with offline():
        return prepare_batch(model, [{name: example(model, name, seed)} for seed in range(len(CHOICES))])


def scores(model: CremaModel, name: str) -> tuple[float, ...]:
    """Return the scores of the choices, answered from one sense alone."""
    with offline():
        answer = model.answer(QUESTION, CHOICES, **{name: example(model, name, 0)})
    return tuple(answer.scores.values())


def loss_of(model: CremaModel, name: str, batch: dict[str, SenseBatch]) -> Tensor:
    """Return the loss (scalar) of two samples whose answers differ and whose question does not."""
    with offline():
        tokens = {name: model.sense_tokens(name, features) for name, features in model.encode(batch).items()}
        questions = [model.template.render(QUESTION, CHOICES)] * len(CHOICES)
        return model.loss(tokens, questions, [model.template.target(choice, CHOICES) for choice in CHOICES])


@dataclass(frozen=True)
class Trial:
    """What a short training of the sense's adapter did.

    Attributes:
        losses: one per step.
        with_gradient: names of the parameters that had a gradient after the first backward pass.
        adapter: names of the parameters that may have one.
        moved: names of the frozen encoder's weights and buffers that changed.
    """

    losses: tuple[float, ...]
    with_gradient: frozenset[str]
    adapter: frozenset[str]
    moved: tuple[str, ...]


def trial(subject: Subject) -> Trial:
    """Train the sense's adapter to tell two examples apart; done once for all checks."""
    return subject.share("trial", partial(_trial, subject))


def _trial(subject: Subject) -> Trial:
    model, name = build_own(subject), subject.spec.name
    parameters = list(model.adapter_parameters(name).values())
    adapter = frozenset(names_of(model, parameters))
    set_trainable(model, adapter)
    encoder = model.sense(name).modality
    before = {key: value.clone() for key, value in encoder.state_dict().items()}
    batch = batches(model, name)
    optimizer = torch.optim.AdamW(parameters, lr=LEARNING_RATE)
    model.train()
    losses: list[float] = []
    with_gradient: frozenset[str] = frozenset()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        while len(losses) < MAX_STEPS and not (losses and losses[-1] < TOLD_APART):
            loss = loss_of(model, name, batch)
            optimizer.zero_grad()
            loss.backward()
            if not losses:
                with_gradient = frozenset(own for own, value in model.named_parameters() if value.grad is not None)
            optimizer.step()
            losses.append(float(loss.detach()))
    moved = tuple(key for key, value in encoder.state_dict().items() if not torch.equal(value, before[key]))
    return Trial(tuple(losses), with_gradient, adapter, moved)
