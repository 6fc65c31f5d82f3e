"""A misspelt hook beside a correct one."""

from __future__ import annotations

from crema_core.plugins.hooks import hookimpl


@hookimpl(trylast=True)
def crema_step_finshed(step: int) -> None:
    """Never called."""


@hookimpl
def crema_evaluated(metrics: object) -> None:
    """Not called either: a package's hooks are used together or not at all."""
