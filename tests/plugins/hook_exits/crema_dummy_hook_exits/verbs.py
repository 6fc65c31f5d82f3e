"""Two verbs: one whose module ends the program, one that ends it instead of returning its exit code."""

from __future__ import annotations

from crema_core.plugins.hooks import Command, hookimpl


@hookimpl
def crema_register_commands() -> list[Command]:
    return [
        Command("vanish", "is never there", "crema_dummy_hook_exits.unloadable"),
        Command("depart", "prints and leaves", "crema_dummy_hook_exits.depart"),
    ]
