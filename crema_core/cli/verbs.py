"""Which verbs there are and where they live, so that help needs no heavy import.

A verb's module has three names:

- `HELP`: the first paragraph says what the verb does; what follows the first empty line is shown after the options
  and ends with a real example.
- `add_arguments(parser)`: adds the verb's arguments.
- `run(arguments)`: does the work and returns the exit code.
"""

from __future__ import annotations

import argparse
import importlib
from typing import Protocol, cast

from crema_core.plugins.hookspecs import Command

VERBS = (
    Command("fit", "train the adapters of a model on a data file", "crema_core.cli.fit"),
    Command("resume", "go on with an interrupted run", "crema_core.cli.resume"),
    Command("encode", "run frozen encoders once and keep their features in a folder", "crema_core.cli.encode"),
    Command("cache", "show, check or make smaller a folder of kept features", "crema_core.cli.cache"),
    Command("eval", "score a saved model on a data file", "crema_core.cli.eval"),
    Command("answer", "ask a saved model a question about media files", "crema_core.cli.answer"),
    Command("data", "list named data sets, write their data files, check data files", "crema_core.cli.data"),
    Command("describe", "show the parts, sizes and costs of a model", "crema_core.cli.describe"),
    Command("plan", "estimate the memory of a training step", "crema_core.cli.plan"),
    Command("convert", "turn released CREMA checkpoints into saved models, and back", "crema_core.cli.convert"),
    Command("show", "draw what a sense makes of a file", "crema_core.cli.show"),
    Command("plugins", "list, show, check and begin senses", "crema_core.cli.plugins"),
)


class Verb(Protocol):
    """What a verb's module offers."""

    HELP: str

    def add_arguments(self, parser: argparse.ArgumentParser) -> None: ...

    def run(self, arguments: argparse.Namespace) -> int: ...


def own_commands() -> dict[str, Command]:
    """Return the verbs of core by name."""
    return {command.name: command for command in VERBS}


def plugin_commands() -> dict[str, Command]:
    """Return the verbs that installed packages add; a verb of core cannot be replaced."""
    from crema_core.plugins.hooks import load_hooks

    offered = load_hooks().call("crema_register_commands")
    return {command.name: command for commands in offered for command in commands if command.name not in own_commands()}


def load_verb(command: Command) -> Verb:
    """Import the module of a verb."""
    return cast(Verb, importlib.import_module(command.module))
