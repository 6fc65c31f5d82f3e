"""The verb and the section of reports this package adds; imports no torch."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from crema_core.plugins.hookspecs import Command, ReportSection, hookimpl

CONVERT = Command(
    "convert-merv", "turn a checkpoint of the released MERV code into a saved model", "crema_merv.convert"
)


@hookimpl
def crema_register_commands() -> Sequence[Command]:
    """Offer `crema convert-merv`."""
    return (CONVERT,)


@hookimpl
def crema_report_sections(run: Path) -> Sequence[ReportSection]:
    """Show contribution of each encoder, where the run answered validation questions with several."""
    from crema_core.report.html import ANSWERED, read_lines
    from crema_merv.report import encoder_sections

    answered = run / ANSWERED
    return encoder_sections(read_lines(answered)) if answered.is_file() else ()
