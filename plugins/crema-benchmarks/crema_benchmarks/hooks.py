"""The verb this package adds to the `crema` command; imports no torch."""

from __future__ import annotations

from collections.abc import Sequence

from crema_core.plugins.hookspecs import Command, hookimpl


@hookimpl
def crema_register_commands() -> Sequence[Command]:
    """Offer `crema convert`."""
    return (
        Command("convert", "turn released CREMA checkpoints into saved models, and back", "crema_benchmarks.convert"),
    )
