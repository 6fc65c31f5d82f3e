"""A hook with a default value."""

from __future__ import annotations

from crema_core.plugins.hooks import hookimpl


@hookimpl
def crema_step_finished(step: int, losses: object = None) -> None:
    """Would receive None or the losses, depending on the release of pluggy."""
