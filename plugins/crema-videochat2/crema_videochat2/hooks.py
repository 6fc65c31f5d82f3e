"""The verb this package adds to the `crema` command; imports no torch."""

from __future__ import annotations

from collections.abc import Sequence

from crema_core.plugins.hookspecs import Command, hookimpl

CONVERT = Command(
    "convert-videochat2", "turn released VideoChat2 files into a backbone's folder", "crema_videochat2.convert"
)


@hookimpl
def crema_register_commands() -> Sequence[Command]:
    """Offer `crema convert-videochat2`."""
    return (CONVERT,)
