"""Hooks that return something else than they should."""

from __future__ import annotations

from crema_core.plugins.hooks import hookimpl


@hookimpl
def crema_register_commands() -> str:
    return "greet"


@hookimpl
def crema_report_sections() -> list[tuple[str, str]]:
    return [("title", "html")]
