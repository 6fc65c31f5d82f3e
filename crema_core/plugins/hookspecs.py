"""The events of a run, as pluggy specifications. Names in the past tense are notifications: they return nothing.

A hook implementation takes any subset of the arguments by name, without default values. All but
`crema_register_commands` run in the main process of training or building, also where several processes train.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import pluggy

if TYPE_CHECKING:
    from crema_core.api.model import CremaModel
    from crema_core.modality import Modality
    from crema_core.plugins.spec import ModalitySpec

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
def crema_train_started(trainer: Any) -> None:
    """Called after the first checks and before the first step; also after a resume.

    Args:
        trainer: the running trainer; read its `model`, `settings` and `step`, change nothing.
    """


@hookspec
def crema_step_finished(trainer: Any, step: int, losses: Mapping[str, float]) -> None:
    """Called after every optimizer step of a minibatch, hundreds of times: be quick.

    Args:
        trainer: the running trainer.
        step: number of minibatches done, from 1.
        losses: name of each modality updated in this minibatch -> its loss, floats.
    """


@hookspec
def crema_evaluated(trainer: Any, metrics: Mapping[str, float]) -> None:
    """Called after every evaluation.

    Args:
        trainer: the running trainer, or None when `evaluate` was called alone.
        metrics: name -> value, floats.
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
