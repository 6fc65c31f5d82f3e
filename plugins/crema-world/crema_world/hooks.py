"""The verbs this package adds to the `crema` command; imports no torch."""

from __future__ import annotations

from collections.abc import Sequence

from crema_core.plugins.hookspecs import Command, hookimpl


@hookimpl
def crema_register_commands() -> Sequence[Command]:
    """Offer `crema world` and `crema demo`."""
    return (
        Command("world", "make clips of the generated multi-sensory world", "crema_world.world_verb"),
        Command("demo", "train and compare sets of modalities on the generated world", "crema_world.demo_verb"),
    )
