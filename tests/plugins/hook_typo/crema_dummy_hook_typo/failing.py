"""A hook that raises when called."""

from __future__ import annotations

from crema_core.plugins.hooks import hookimpl


@hookimpl
def crema_step_finished(step: int) -> None:
    """Fails at every step."""
    raise RuntimeError("no room on the disk")
