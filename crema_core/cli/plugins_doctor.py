"""`crema plugins doctor`: the environment and what is wrong with it, as text to paste into a question."""

from __future__ import annotations

import argparse
import json

from crema_core.common.tables import table

DONE, FINDINGS = 0, 3


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the action's arguments."""
    parser.add_argument("--json", action="store_true", help="print JSON")


def run(arguments: argparse.Namespace) -> int:
    """Print the diagnosis; returns 3 when something is to repair."""
    from crema_core.plugins.doctor import examine

    diagnosis = examine()
    if arguments.json:
        print(json.dumps(diagnosis.describe(), indent=2))
        return FINDINGS if diagnosis.findings else DONE
    print(table([["what", "value"], *([key, value] for key, value in diagnosis.environment.items())]))
    packages = [
        [own.name, own.version, own.location + (" (editable)" if own.editable else "")] for own in diagnosis.packages
    ]
    print("\n" + table([["package", "version", "place"], *packages]))
    print("\nNothing to repair." if not diagnosis.findings else f"\n{len(diagnosis.findings)} to repair:")
    for number, found in enumerate(diagnosis.findings, start=1):
        print(f"{number}. {found.kind}: {found.text}")
        if found.detail:
            print("".join(f"   {line}\n" for line in found.detail.splitlines()), end="")
    return FINDINGS if diagnosis.findings else DONE
