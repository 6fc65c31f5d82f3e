"""Gold: the modality learns in a model, is saved and loaded with it, and leaves the other modalities alone."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from crema_core.api.build import build
from crema_core.api.load import load
from crema_core.api.model import CremaModel
from crema_core.features.feature_cache import prepare_batch
from crema_core.model.trainable import names_of, set_trainable
from crema_core.plugins import registry
from crema_core.testing.check import require
from crema_core.testing.fixtures import COMPANION, QUESTION, offline, source
from crema_core.testing.under_test import UnderTest
from crema_core.tokens import ModalityBatch

CHOICES = ("red", "blue")
EXAMPLE = "example(torch.Generator().manual_seed(0))"
EXAMPLES = f"2 samples: {EXAMPLE}, {EXAMPLE.replace('0', '1')}"
MAX_STEPS, LEARNING_RATE = 80, 3e-3
TOLD_APART = math.log(2) / 4
"""Loss below which two answers are told apart: half of what knowing the question alone can reach, ln 2 for the word
of an answer, nothing for the end of the text, on average over the two."""


def building_is_reproducible(under_test: UnderTest) -> None:
    """Two models built with one seed give the same features."""
    name = under_test.spec.name
    under_test.batch = EXAMPLES
    models = [build_own(under_test), build_own(under_test)]
    first, second = (model.encode(batches(model, name))[name].features.values for model in models)
    require(torch.equal(first, second), "Two models built with one seed give other features.")


def encoder_is_frozen(under_test: UnderTest) -> None:
    """Training the adapter changes no weight and no buffer of the modality, but for the weights of a trainable one."""
    moved = trial(under_test).moved
    require(not moved, f"Training changed {', '.join(moved)} of the encoder.")


def gradients_stay_in_the_adapter(under_test: UnderTest) -> None:
    """Gradients reach every parameter of the modality's adapter and of a trainable encoder, and nothing else."""
    found = trial(under_test)
    outside, without = sorted(found.with_gradient - found.adapter), sorted(found.adapter - found.with_gradient)
    require(not outside, f"Gradients reach {', '.join(outside[:3])}, which is frozen.")
    require(not without, f"No gradient reaches {', '.join(without[:3])}, which is to be trained.")


def loss_falls(under_test: UnderTest) -> None:
    """The adapter learns to tell two examples apart on the tiny backbone."""
    losses = trial(under_test).losses
    under_test.options, under_test.batch = under_test.case(0), EXAMPLES
    require(
        losses[-1] < TOLD_APART,
        f"After {len(losses)} steps the loss is {losses[-1]:.3f} (it began at {losses[0]:.3f}). Two "
        f"examples are told apart below {TOLD_APART:.3f}.",
    )


def bf16_autocast_works(under_test: UnderTest) -> None:
    """Encoding, loss and gradients are finite under `torch.autocast` with bf16."""
    model, name = build_own(under_test), under_test.spec.name
    under_test.batch = EXAMPLES
    parameters = list(model.adapter_parameters(name).values())
    set_trainable(model, names_of(model, parameters))
    with torch.autocast("cpu", torch.bfloat16):
        loss = loss_of(model, name, batches(model, name))
    loss.backward()
    finite = all(bool(own.grad.isfinite().all()) for own in parameters if own.grad is not None)
    require(
        bool(loss.isfinite()) and finite,
        f"Under bf16 autocast the loss is {float(loss.detach())}, gradients are {'' if finite else 'not '}finite.",
    )


def saved_and_loaded_it_answers_the_same(under_test: UnderTest) -> None:
    """A saved and loaded model gives the same scores, bit for bit; a trainable encoder has other weights than new."""
    model, name = build_own(under_test), under_test.spec.name
    with torch.no_grad():
        for parameter in model.branch(name).encoder_parameters().values():
            parameter.mul_(1.25).add_(0.01)
    under_test.batch = EXAMPLE
    before = scores(model, name)
    with tempfile.TemporaryDirectory() as folder, _known(under_test):
        model.save_pretrained(Path(folder) / "model")
        after = scores(load(Path(folder) / "model"), name)
    require(before == after, f"A loaded model scores {after}, the saved one {before}.")


def other_modalities_stay_bit_identical(under_test: UnderTest) -> None:
    """With the modality or without it, added later or built together, another modality's answers are the same bits."""
    companion = {"name": COMPANION, "mmqa": {"num_queries": under_test.spec.mmqa.num_queries}}
    own = COMPANION.name
    under_test.batch = f"one sample of '{own}' alone"
    model = build_model([companion])
    before, frozen = scores(model, own), model.frozen_fingerprint()
    model.add_modality(request(under_test))
    require(
        scores(model, own) == before and model.frozen_fingerprint() == frozen,
        "Adding the modality changes what another modality answers.",
    )
    together = build_model([companion, request(under_test)], major=own)
    require(scores(together, own) == before, "Built together with the modality, another modality answers otherwise.")


@contextmanager
def _known(under_test: UnderTest) -> Iterator[None]:
    """Let `load` find a spec that was given in this process."""
    with registry.temporary_registrations():
        if under_test.distribution is None:
            registry.register(under_test.spec, replace=True)
        yield


def request(under_test: UnderTest) -> dict[str, Any]:
    """Return what `build` takes for the modality with its first test options."""
    options, under_test.options = under_test.cases[0], under_test.case(0)
    return {"name": under_test.spec, **{name: getattr(options, name) for name in type(options).model_fields}}


def build_model(modalities: Sequence[Any], *, major: str | None = None) -> CremaModel:
    """Build a model on the tiny backbone, without network."""
    with offline():
        return build(modalities, major=major)


def build_own(under_test: UnderTest) -> CremaModel:
    """Build a model of the modality alone."""
    return build_model([request(under_test)])


def batches(model: CremaModel, name: str) -> dict[str, ModalityBatch]:
    """Return a batch of two synthetic sources, one per choice."""
    with offline():
        return prepare_batch(model, [{name: source(model.branch(name).modality, seed)} for seed in range(len(CHOICES))])


def scores(model: CremaModel, name: str) -> tuple[float, ...]:
    """Return the scores of the choices, answered from one modality alone."""
    with offline():
        answer = model.answer(QUESTION, CHOICES, **{name: source(model.branch(name).modality, 0)})
    return tuple(answer.scores.values())


def loss_of(model: CremaModel, name: str, batch: dict[str, ModalityBatch]) -> Tensor:
    """Return the loss (scalar) of two samples whose answers differ and whose question does not."""
    with offline():
        tokens = {name: model.modality_tokens(name, features) for name, features in model.encode(batch).items()}
        questions = [model.template.render(QUESTION, CHOICES)] * len(CHOICES)
        return model.loss(tokens, questions, [model.template.target(choice, CHOICES) for choice in CHOICES])


@dataclass(frozen=True)
class Trial:
    """What a short training of the modality's adapter did."""

    losses: tuple[float, ...]  # one per step
    with_gradient: frozenset[str]  # names of the parameters that had a gradient after the first backward pass
    adapter: frozenset[str]  # names of the parameters that may have one
    moved: tuple[str, ...]  # names of the encoder's frozen weights and buffers that changed


def trial(under_test: UnderTest) -> Trial:
    """Train the modality's adapter to tell two examples apart; done once for all checks."""
    return under_test.once("trial", lambda: _trial(under_test))


def _trial(under_test: UnderTest) -> Trial:
    model, name = build_own(under_test), under_test.spec.name
    under_test.batch = EXAMPLES
    parameters = list(model.adapter_parameters(name).values())
    adapter = frozenset(names_of(model, parameters))
    set_trainable(model, adapter)
    encoder = model.branch(name).modality
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
    frozen = before.keys() - (dict(encoder.named_parameters()) if encoder.trainable else {})
    moved = tuple(
        key for key, value in encoder.state_dict().items() if key in frozen and not torch.equal(value, before[key])
    )
    return Trial(tuple(losses), with_gradient, adapter, moved)
