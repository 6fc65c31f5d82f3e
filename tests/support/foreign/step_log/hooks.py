"""What this package adds to trainings and to the `crema` command; imports no torch, because help asks for it."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from crema_core.plugins.hookspecs import Command, hookimpl

FILE = "steps.jsonl"


@hookimpl
def crema_register_commands() -> Sequence[Command]:
    """Return the verbs of this package: name, line of help, module that is imported when the verb is used."""
    return [Command("step-log", "count what the lines of a data file have", "crema_step_log.verb")]


@hookimpl
def crema_step_finished(trainer: Any, step: int, losses: Mapping[str, float]) -> None:
    """Write one line per minibatch: which modalities were updated."""
    with (trainer.folder / FILE).open("a", encoding="utf-8") as file:
        file.write(json.dumps({"step": step, "modalities": sorted(losses)}) + "\n")
