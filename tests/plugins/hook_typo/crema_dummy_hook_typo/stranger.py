"""A hook with an argument that the specification does not have."""

from __future__ import annotations

from crema_core.plugins.hooks import hookimpl


@hookimpl
def crema_step_finished(step: int, loss: float) -> None:
    """Asks for 'loss'; the argument is called 'losses'."""
