"""The verb this package adds to the `crema` command; imports no torch."""

from __future__ import annotations

from collections.abc import Sequence

from crema_core.plugins.hookspecs import Command, hookimpl

EXTRACT = Command(
    "extract", "estimate depth, flow and normals from RGB videos with frozen experts", "crema_geometry.extract.verb"
)


@hookimpl
def crema_register_commands() -> Sequence[Command]:
    """Offer `crema extract`."""
    return (EXTRACT,)
