"""Prints in a hook."""

from __future__ import annotations

from crema_core.plugins.hooks import Command, hookimpl

print("hello from the module of hooks")


@hookimpl
def crema_model_built() -> None:
    print("hello from a hook")


@hookimpl
def crema_register_commands() -> list[Command]:
    print("hello from a hook")
    return []
