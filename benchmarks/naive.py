"""The reference: a sequential minibatch as it is published, everything computed anew in each sub-step."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from crema_core.data.dataset import TrainBatch
from crema_core.tokens import ModalityBatch, ModalityFeatures
from crema_core.train.steps import Stepper


def naive_minibatch(
    stepper: Stepper,
    batch: TrainBatch,
    inputs: Mapping[str, ModalityBatch],
    *,
    order: Sequence[str],
    given: Mapping[str, ModalityFeatures] | None = None,
) -> None:
    """Update the modalities one after the other.

    Args:
        stepper: model and optimizer, everything trainable.
        batch: questions and answers.
        inputs: prepared inputs of every modality; the encoders run on them in every sub-step.
        order: modalities in the order of their sub-steps.
        given: encoded features, where a cache is compared; then no encoder runs.
    """
    model = stepper.model
    for active in order:
        own = {id(parameter) for parameter in [*stepper.adapters[active].values(), *stepper.shared.values()]}
        for parameter in stepper.parameters.values():
            parameter.requires_grad_(id(parameter) in own)
        features = model.encode(inputs) if given is None else given
        model(batch, features=features).backward()
        stepper.optimizer.step()
        stepper.optimizer.zero_grad(set_to_none=True)
    for parameter in stepper.parameters.values():
        parameter.requires_grad_(True)
