"""The events of a run, as pluggy specifications. Names in the past tense are notifications: they return nothing.

A hook implementation takes any subset of the arguments by name, without default values. All but
`crema_register_commands` run in the main process of training or building, also where several processes train.

Hooks of a training run without gradient tracking and with random numbers of torch that the training does not see. They
read: what a run may be changed in goes through `control`. Where no plugin implements a hook nothing is computed for it.

Shape letters: B samples of the batch, R of them that have the modality, T steps, Q tokens of a step, L language-model
width.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import pluggy

if TYPE_CHECKING:
    from torch import Tensor

    from crema_core.api.model import CremaModel
    from crema_core.data.dataset import TrainBatch
    from crema_core.modality import Modality
    from crema_core.plugins.control import RunControl
    from crema_core.plugins.spec import ModalitySpec
    from crema_core.tokens import ModalityTokens

PROJECT = "crema"

hookspec = pluggy.HookspecMarker(PROJECT)
hookimpl = pluggy.HookimplMarker(PROJECT)
"""Marks a hook implementation: `@hookimpl` above `def crema_step_finished(step, losses): ...`."""


class Command(NamedTuple):
    """One extra verb of the `crema` command.

    Attributes:
        name: the verb.
        summary: one line for `crema --help`.
        module: module with `HELP`, `add_arguments(parser)` and `run(arguments)`, imported only when the verb is used.
    """

    name: str
    summary: str
    module: str


class ReportSection(NamedTuple):
    """One extra section of the HTML report.

    Attributes:
        title: heading.
        html: the section's body, complete and self-contained (no external files).
    """

    title: str
    html: str


@hookspec
def crema_build_started(config: Mapping[str, Any]) -> None:
    """Called before anything is built.

    Args:
        config: the settings given to `build`: `modalities` (names in order), `backbone`, `fusion` and the like.
    """


@hookspec
def crema_modality_built(modality: Modality, spec: ModalitySpec) -> None:
    """Called after each modality was built and its weights loaded.

    Args:
        modality: the modality, frozen, on the CPU.
        spec: its declaration.
    """


@hookspec
def crema_model_built(model: CremaModel) -> None:
    """Called once after the whole model was built.

    Args:
        model: the model, on the CPU or on the device asked for.
    """


@hookspec
def crema_train_started(trainer: Any, control: RunControl) -> None:
    """Called after the first checks and before the first step; also after a resume.

    Args:
        trainer: the running trainer; read its `model`, `settings`, `folder` (the run directory) and `step` (minibatches
            done), change nothing.
        control: scales the learning rate, stops the run, and holds what the plugin remembers; after a resume with what
            it held at the checkpoint.
    """


@hookspec
def crema_tokens_ready(
    trainer: Any,
    step: int,
    modalities: Sequence[str],
    batch: TrainBatch,
    samples: range,
    tokens: Mapping[str, ModalityTokens],
) -> None:
    """Called in every sub-step when the tokens of all modalities are there, before they are fused.

    Once for each part that the language model reads at once (`micro_batch_size`) of each minibatch of the update
    (`gradient_accumulation_steps`). Of several processes the main one shows its own part of the minibatch. Reading a
    tensor on a GPU waits for it; do so every hundredth step.

    Args:
        trainer: the running trainer; read it, run nothing with its model here.
        step: number of the minibatch, from 1.
        modalities: those this sub-step updates: one, or all of them in joint mode.
        batch: this process's samples of the minibatch, with their records and prepared sources, on the CPU.
        samples: which of the B samples of `batch` the tokens belong to; `rows` of the tokens count from its start.
        tokens: name -> tokens before fusion, `values` `(R, T, Q, L)`, detached, for every modality that one of these
            samples has. A change in place ends the run with a `HookError`.
    """


@hookspec
def crema_gradients_ready(
    trainer: Any, step: int, modalities: Sequence[str], gradients: Mapping[str, Tensor], norms: Mapping[str, float]
) -> None:
    """Called in every sub-step when its gradients are complete: added up over parts, minibatches and processes.

    Before they are clipped (`max_grad_norm`) and before the optimizer step. They are those of the loss of the whole
    update, the mean over its answer tokens, and the same in all processes; the main one shows them.

    Args:
        trainer: the running trainer; read it, run nothing with its model here.
        step: number of the minibatch, from 1.
        modalities: those this sub-step updates: one, or all of them in joint mode.
        gradients: name of a parameter, as in `CremaModel.trainable_parameters` -> its gradient, of the parameter's
            shape, detached. A parameter without a gradient in this sub-step is absent. A change in place ends the run
            with a `HookError`.
        norms: the same names -> L2 norm of the gradient, float; computed only where a hook takes them.
    """


@hookspec
def crema_step_finished(trainer: Any, step: int, losses: Mapping[str, float], control: RunControl) -> None:
    """Called after every optimizer step of a minibatch, hundreds of times: be quick. Gradients are gone.

    Args:
        trainer: the running trainer.
        step: number of minibatches done, from 1.
        losses: name of each modality updated in this minibatch -> its loss, floats.
        control: scales the learning rate from the next minibatch on, stops the run after this one, and holds what the
            plugin remembers.
    """


@hookspec
def crema_evaluated(trainer: Any, metrics: Mapping[str, float], control: RunControl | None) -> None:
    """Called after every evaluation.

    Args:
        trainer: the running trainer, or None when `evaluate` was called alone.
        metrics: name -> value, floats.
        control: as for `crema_step_finished`; None when `evaluate` was called alone.
    """


@hookspec
def crema_checkpoint_saved(path: Path, config: Mapping[str, Any]) -> None:
    """Called after a checkpoint folder was completed and renamed to its final place; main process only.

    Args:
        path: the folder.
        config: what was written into it, plugin provenance included.
    """


@hookspec
def crema_register_commands() -> Sequence[Command]:  # type: ignore[empty-body]
    """Return extra verbs of the `crema` command. Called for `crema --help` and for unknown verbs."""


@hookspec
def crema_report_sections(run: Path) -> Sequence[ReportSection]:  # type: ignore[empty-body]
    """Return extra sections of a run's HTML report; main process only.

    Args:
        run: the run's directory.
    """
