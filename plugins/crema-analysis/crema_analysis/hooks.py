"""The verbs this package adds to the `crema` command; imports no torch."""

from __future__ import annotations

from collections.abc import Sequence

from crema_core.plugins.hookspecs import Command, hookimpl


@hookimpl
def crema_register_commands() -> Sequence[Command]:
    """Offer `crema ablate`, `split`, `sweep` and `maps`."""
    return (
        Command(
            "ablate",
            "ask a saved model with less: which modality matters for which questions",
            "crema_analysis.ablate_verb",
        ),
        Command("split", "tell easy questions from hard ones by a reference model", "crema_analysis.split_verb"),
        Command("sweep", "train one model per value of a choice and seed, and compare", "crema_analysis.sweep_verb"),
        Command("maps", "draw where a saved model looks and how far its gate opens", "crema_analysis.maps_verb"),
    )
