"""The verb this package adds to the `crema` command; imports no torch."""

from __future__ import annotations

from collections.abc import Sequence

from crema_core.plugins.hookspecs import Command, hookimpl

CONVERT = Command("convert-pave", "turn a released PAVE run into a saved model, and a patch back", "crema_pave.convert")


@hookimpl
def crema_register_commands() -> Sequence[Command]:
    """Offer `crema convert-pave`."""
    return (CONVERT,)
