"""A hook that wraps the others."""

from __future__ import annotations

from crema_core.plugins.hooks import hookimpl


@hookimpl(wrapper=True)
def crema_step_finished(step: int):  # type: ignore[no-untyped-def]
    """Would run around the hooks of other packages."""
    return (yield)
