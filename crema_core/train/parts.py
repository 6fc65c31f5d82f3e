"""From a model and settings to the parts an update touches: which parameters, which optimizer."""

from __future__ import annotations

from crema_core.model.crema import CremaModel
from crema_core.train.optim import make_optimizer
from crema_core.train.settings import TrainSettings
from crema_core.train.steps import Stepper, stepper_parameters
from crema_core.train.sync import Sync


def make_stepper(model: CremaModel, settings: TrainSettings, *, trained: tuple[str, ...], sync: Sync) -> Stepper:
    """Return the stepper of a run.

    Args:
        model: a built model.
        settings: of the run.
        trained: senses to train, in the model's order.
        sync: number format and processes.
    """
    adapters = {name: model.adapter_parameters(name) for name in trained}
    # When only some senses are trained, the other blocks keep their weights, and so does what all senses share:
    # otherwise answers without the trained senses would change.
    fusion = model.fusion_parameters(None if trained == model.names else trained)
    measured = {
        name: list((model.lora_parameters(name) if settings.early_exit_metric == "lora" else own).values())
        for name, own in adapters.items()
    }
    optimizer = make_optimizer(
        stepper_parameters(adapters, fusion), lr=settings.lr, weight_decay=settings.weight_decay, betas=settings.betas
    )
    return Stepper(model, adapters, fusion, measured, sync, optimizer, settings.clip_norm)
