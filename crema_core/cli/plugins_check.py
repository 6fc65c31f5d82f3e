"""`crema plugins check`: a modality or fusion, or all of a package's folder or wheel, against the contract."""

from __future__ import annotations

import argparse
import json
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from crema_core.plugins import registry

if TYPE_CHECKING:
    from crema_core.testing.check import CheckedKind
    from crema_core.testing.report import Report, Tier

DONE, USAGE, FINDINGS = 0, 2, 3


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the action's arguments."""
    parser.add_argument(
        "subject", metavar="NAME|PATH", nargs="?", help="a modality, a fusion, a package's folder, or a wheel"
    )
    parser.add_argument(
        "--kind",
        choices=("modality", "fusion"),
        help="what NAME names; default: a modality where there is one of this name, else a fusion",
    )
    parser.add_argument("--tier", choices=("bronze", "silver", "gold"), default="gold", help="highest tier that runs")
    parser.add_argument("--list", action="store_true", help="print the checks and what they look at")
    parser.add_argument("--json", action="store_true", help="print JSON")


def run(arguments: argparse.Namespace) -> int:
    """Check, or list the checks; returns 3 when something was found."""
    if arguments.list:
        return _list(arguments.kind or "modality", arguments.tier, as_json=arguments.json)
    if arguments.subject is None:
        print("crema plugins check: name a modality, a fusion, a folder or a wheel, or pass --list", file=sys.stderr)
        return USAGE
    from crema_core.testing.unpack import is_path, unpacked

    with ExitStack() as stack:
        if is_path(arguments.subject):
            found = stack.enter_context(unpacked(Path(arguments.subject)))
        else:
            found = ((arguments.kind or _kind_of(arguments.subject), arguments.subject),)
        reports = [_report(kind, name, arguments.tier) for kind, name in found if arguments.kind in (None, kind)]
    if arguments.json:
        print(json.dumps([report.describe() for report in reports], indent=2))
    else:
        print("\n\n".join(map(str, reports)))
    return FINDINGS if any(report.findings for report in reports) else DONE


def _kind_of(reference: str) -> CheckedKind:
    name = reference.rpartition(":")[2]
    is_fusion = name not in registry.installed_names("modality") and name in registry.installed_names("fusion")
    return "fusion" if is_fusion else "modality"


def _report(kind: CheckedKind, name: str, tier: Tier) -> Report:
    from crema_core.testing import check_fusion, check_modality

    return check_fusion(name, tier=tier) if kind == "fusion" else check_modality(name, tier=tier)


def _list(kind: CheckedKind, tier: Tier, *, as_json: bool) -> int:
    from crema_core.testing.check import checks_up_to

    checks = checks_up_to(tier, kind=kind)
    if as_json:
        rows = [{"check": own.name, "tier": own.tier, "documentation": own.documentation} for own in checks]
        print(json.dumps(rows, indent=2))
    else:
        print("\n".join(f"{check.tier:<6}  {check.name}: {check.documentation.splitlines()[0]}" for check in checks))
    return DONE
