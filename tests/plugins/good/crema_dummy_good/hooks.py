"""Hooks that keep every rule: one observer, one extra verb, one report section."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from crema_core.plugins.hooks import Command, ReportSection, hookimpl

seen: list[tuple[int, dict[str, float]]] = []


@hookimpl
def crema_step_finished(step: int, losses: Mapping[str, float]) -> None:
    seen.append((step, dict(losses)))


@hookimpl
def crema_register_commands() -> Sequence[Command]:
    return [
        Command("greet", "say hello", "crema_dummy_good.greet"),
        Command("plugins", "an attempt to replace a verb of core", "crema_dummy_good.greet"),
    ]


@hookimpl
def crema_report_sections(run: Path) -> Sequence[ReportSection]:
    return [ReportSection("Good", f"<p>{run.name}</p>")]
