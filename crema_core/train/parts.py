"""From a model and settings to the parts an update touches: which parameters, which optimizer."""

from __future__ import annotations

from collections.abc import Mapping

from torch import nn

from crema_core.api.model import CremaModel
from crema_core.errors import OptionsError
from crema_core.model.blocks import share_out
from crema_core.model.tuning import FULL
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
    # otherwise answers without the trained senses would change. PAVE's second stage asks for it.
    everything = trained == model.names or settings.train_shared
    known = model.trainable_parameters()
    blocks = {f"fusion.{key}" for key in model.fusion_parameters(trained)}
    wanted = blocks | set(model.shared_parameters()) if everything else blocks
    shared = {key: parameter for key, parameter in known.items() if key in wanted}
    lora_alone = settings.early_exit_metric == "lora"
    measured = {name: list(_measured(model, name, lora_alone=lora_alone).values()) for name in adapters}
    optimizer = make_optimizer(
        stepper_parameters(adapters, shared), lr=settings.lr, weight_decay=settings.weight_decay, betas=settings.betas
    )
    return Stepper(
        model,
        adapters,
        shared,
        measured,
        sync,
        optimizer,
        clip_norm=settings.clip_norm,
        kept_graphs=settings.kept_graphs,
        micro_batch_size=settings.micro_batch_size,
    )


def _measured(model: CremaModel, name: str, *, lora_alone: bool) -> Mapping[str, nn.Parameter]:
    """Return what a sense's gradient norm is taken over.

    A connector without LoRA is measured whole; where all that a sense trains is in the fusion (PAVE), its block is.
    """
    own = model.adapter_parameters(name)
    if not own:
        return model.fusion_parameters([name])
    return (model.lora_parameters(name) if lora_alone else {}) or own


def share_language_model(model: CremaModel, sync: Sync) -> None:
    """Keep a part of the language model's frozen weights in each process; from then on all make each pass together.

    Raises:
        OptionsError: when this process is alone, or nothing of the language model is frozen.
    """
    if sync.processes.count == 1:
        raise OptionsError(
            "shard_language_model=True in one process. A language model is shared out over several, one per GPU. Start "
            "with --processes 2 or more, or leave the setting out."
        )
    if model.backbone.tuning == FULL:
        raise OptionsError(
            "shard_language_model=True with tuning='full'. Only weights that are not trained are shared out: those of "
            "a frozen language model, or those below its LoRA. Build with tuning={'rank': 64, 'alpha': 16}, or leave "
            "the setting out."
        )
    if not model.language.in_step:
        trained = set(model.language_parameters().values())
        model.backbone.identity()  # a checksum of whole weights, which saved models name; kept from here on
        share_out(model.backbone.language_model, device=sync.device, count=sync.processes.count, whole=trained)
        model.language.in_step = True
