"""`crema plugins check`: one installed sense, or every sense of a package's folder or wheel, against the contract."""

from __future__ import annotations

import argparse
import json
import sys
from contextlib import ExitStack
from pathlib import Path

DONE, USAGE, FINDINGS = 0, 2, 3


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the action's arguments."""
    parser.add_argument("subject", metavar="NAME|PATH", nargs="?", help="a sense, a package's folder, or a wheel")
    parser.add_argument("--tier", choices=("bronze", "silver", "gold"), default="gold", help="highest tier that runs")
    parser.add_argument("--list", action="store_true", help="print the checks and what they look at")
    parser.add_argument("--json", action="store_true", help="print JSON")


def run(arguments: argparse.Namespace) -> int:
    """Check, or list the checks; returns 3 when something was found."""
    if arguments.list:
        return _list(arguments.tier, as_json=arguments.json)
    if arguments.subject is None:
        print("crema plugins check: name a sense, a folder or a wheel, or pass --list", file=sys.stderr)
        return USAGE
    from crema_core.testing import check_modality
    from crema_core.testing.unpack import is_path, unpacked

    with ExitStack() as stack:
        place = is_path(arguments.subject)
        names = stack.enter_context(unpacked(Path(arguments.subject))) if place else (arguments.subject,)
        reports = [check_modality(name, tier=arguments.tier) for name in names]
    if arguments.json:
        print(json.dumps([report.describe() for report in reports], indent=2))
    else:
        print("\n\n".join(map(str, reports)))
    return FINDINGS if any(report.findings for report in reports) else DONE


def _list(tier: str, *, as_json: bool) -> int:
    from crema_core.testing.check import checks_up_to

    checks = checks_up_to(tier)  # type: ignore[arg-type]
    if as_json:
        rows = [{"check": own.name, "tier": own.tier, "documentation": own.documentation} for own in checks]
        print(json.dumps(rows, indent=2))
    else:
        print("\n".join(f"{check.tier:<6}  {check.name}: {check.documentation.splitlines()[0]}" for check in checks))
    return DONE
