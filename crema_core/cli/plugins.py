"""`crema plugins`: what is installed of every kind, what each modality takes, checks, repairs and new packages.

`list` and `show` import light modules only, never torch.
"""

from __future__ import annotations

import argparse
import dataclasses
import faulthandler
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

from crema_core.cli.inputs import add_shared, help_text, print_result
from crema_core.common.tables import table
from crema_core.errors import PluginDisabledError, PluginError
from crema_core.plugins import registry
from crema_core.plugins.groups import KINDS, Kind, KindName
from crema_core.plugins.registry import Distribution, PluginRecord
from crema_core.plugins.spec import option_rows

if TYPE_CHECKING:
    from crema_core.testing.check import CheckedKind, Tier

DONE, USAGE, FINDINGS = 0, 2, 3
COLUMNS = ["name", "package", "version", "status"]
HELP = help_text("plugins")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the actions and their options."""
    actions = parser.add_subparsers(dest="action", required=True, metavar="{list,show,check,doctor,new}")
    listing = actions.add_parser("list", help="one line per installed plugin, by kind")
    listing.add_argument("--kind", choices=tuple(KINDS), metavar="KIND", help=f"{', '.join(KINDS)}; default: all")
    add_shared(listing, "json")
    listing.add_argument("--all", action="store_true", help="also disabled ones, entry points and notes")
    show = actions.add_parser("show", help="summary, inputs, options, weights and provenance of one modality")
    show.add_argument("name", metavar="NAME", help="a name from the list, or distribution:name")
    add_shared(show, "json")
    check = _action(actions, "check", "check a modality or a fusion against the contract")
    check.add_argument(
        "subject", metavar="NAME|PATH", nargs="?", help="a modality, a fusion, a package's folder, or a wheel"
    )
    check.add_argument(
        "--kind",
        choices=("modality", "fusion"),
        help="what NAME names; default: a modality where there is one of this name, else a fusion",
    )
    check.add_argument("--tier", choices=("bronze", "silver", "gold"), default="gold", help="highest tier that runs")
    check.add_argument("--list", action="store_true", help="print the checks and what they look at")
    check.add_argument(
        "--pdb", action="store_true", help="open the debugger where a check failed, in the package's code where it can"
    )
    add_shared(check, "json")
    doctor = _action(actions, "doctor", "find what is wrong with the environment, ready to paste")
    add_shared(doctor, "json")
    new = _action(actions, "new", "write a package of any kind that works as it is")
    new.add_argument("name", metavar="NAME", help="what the new thing is called, for example radar")
    new.add_argument(
        "--kind",
        choices=("modality", "fusion", "backbone", "encoder", "dataset", "metric", "verb"),
        default="modality",
        help="what the package adds; default: modality",
    )
    new.add_argument(
        "--encoder",
        choices=("own", "vision", "features"),
        help="of a modality: own, an encoder in the package (default); vision, the backbone's; features, computed "
        "before and read from files",
    )
    new.add_argument("--output", type=Path, default=Path(), metavar="DIR", help="where to write; default: here")


def _action(actions: Any, name: str, summary: str) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = actions.add_parser(name, help=summary, description=summary)
    return parser


def run(arguments: argparse.Namespace) -> int:
    """Run one action; `show` returns 3 for a modality that cannot be used, `check` and `doctor` for findings."""
    if arguments.action == "list":
        return _list(arguments.kind, as_json=arguments.json, everything=arguments.all)
    if arguments.action == "show":
        return _show(arguments.name, as_json=arguments.json)
    return {"check": _check, "doctor": _doctor, "new": _new}[arguments.action](arguments)


def _list(kind: KindName | None, *, as_json: bool, everything: bool) -> int:
    records = [record for record in registry.list_plugins(kind) if everything or record.status != "disabled"]
    lines = ["\n\n".join(filter(None, (_section(own, records) for own in KINDS.values())))]
    if not records:
        noun = "plugin" if kind is None else KINDS[kind].noun
        lines = [f"No {noun} is installed. Install one with pip, or see those switched off: crema plugins list --all"]
    for record in records:
        own = [record.error] if record.error else []
        if everything:
            own += [f"note: {note}" for note in record.notes]
            own.append(f"{record.reference}{' (editable)' if record.editable else ''}")
        lines += [f"{record.name}: {line}" for line in own]
    print_result([dataclasses.asdict(record) for record in records], "\n".join(lines), as_json=as_json)
    return 0


def _section(kind: Kind, records: list[PluginRecord]) -> str:
    own = [record for record in records if record.kind == kind.name]
    rows = [COLUMNS, *([record.name, record.distribution, record.version, record.status] for record in own)]
    if any(record.summary for record in own):
        summaries = ["summary", *(record.summary for record in own)]
        rows = [[*row, summary] for row, summary in zip(rows, summaries, strict=True)]
    return f"{kind.name} ({kind.group})\n{table(rows)}" if own else ""


def _show(name: str, *, as_json: bool) -> int:
    try:
        facts = registry.describe(name)
    except PluginError as error:
        distribution, _, bare = name.rpartition(":")
        records = [own for own in registry.list_modalities() if own.name == bare]
        records = [own for own in records if distribution in ("", own.distribution)]
        if not records:
            raise
        rows = [COLUMNS, *([own.name, own.distribution, own.version, own.status] for own in records)]
        found = [dataclasses.asdict(record) for record in records]
        print_result(found, f"{table(rows)}\n{error}", as_json=as_json)
        return 0 if isinstance(error, PluginDisabledError) else FINDINGS
    print_result(facts, _page(facts), as_json=as_json)
    return 0


def _page(facts: dict[str, Any]) -> str:
    provider = f"{facts['distribution']} {facts['version']}" if facts["distribution"] else "registered in this process"
    rows = [
        ["package", provider],
        ["entry point", facts["reference"]],
        ["class", facts["factory"]],
        ["plugin API", facts["api_version"]],
        ["encoder", facts["encoder"]],
        ["feature width", str(facts["feature_dim"] or "the vision encoder's")],
        ["steps", "one per frame of the major modality" if facts["per_frame"] else "its own"],
        ["requires", ", ".join(facts["requires"]) or "nothing more"],
        ["status", facts["status"]],
    ]
    inputs = [[entry["kind"], " ".join(entry["suffixes"]), entry["description"]] for entry in facts["inputs"]]
    options = [[row.name, row.default, row.type, row.meaning] for row in option_rows(facts["options"])]
    weights = [
        [own["id"], f"{own['size_bytes'] / 1e6:.1f} MB" if own["size_bytes"] else "unknown", own["license"], own["url"]]
        for own in facts["assets"]
    ]
    parts = [
        f"{facts['name']}: {facts['summary']}",
        table(rows),
        "inputs:\n" + (table([["kind", "files", "content"], *inputs]) if inputs else "not declared"),
        "options:\n" + (table([["name", "default", "type", "meaning"], *options]) if options else "none"),
        "weights:\n" + (table([["id", "size", "licence", "where"], *weights]) if weights else "none"),
    ]
    if facts["docs_url"]:
        parts.append(f"more: {facts['docs_url']}")
    return "\n\n".join(parts)


def _check(arguments: argparse.Namespace) -> int:
    if arguments.list:
        return _list_checks(arguments.kind or "modality", arguments.tier, as_json=arguments.json)
    if arguments.subject is None:
        print("crema plugins check: name a modality, a fusion, a folder or a wheel, or pass --list", file=sys.stderr)
        return USAGE
    if arguments.pdb and arguments.json:
        print("crema plugins check: the debugger and the data of --json would mix: pass one of them", file=sys.stderr)
        return USAGE
    from crema_core.testing import check_fusion, check_modality
    from crema_core.testing.debugger import open_debugger
    from crema_core.testing.under_test import is_path, unpacked

    if not faulthandler.is_enabled():  # what native code ends leaves a traceback: the check, and the package's line
        faulthandler.enable(sys.__stderr__ or 2)
    on_fault = open_debugger if arguments.pdb else None
    with ExitStack() as stack:
        if is_path(arguments.subject):
            found = stack.enter_context(unpacked(Path(arguments.subject)))
        else:
            found = ((arguments.kind or _kind_of(arguments.subject), arguments.subject),)
        reports = [
            (check_fusion if kind == "fusion" else check_modality)(name, tier=arguments.tier, on_fault=on_fault)
            for kind, name in found
            if arguments.kind in (None, kind)
        ]
    print_result([own.describe() for own in reports], "\n\n".join(map(str, reports)), as_json=arguments.json)
    return FINDINGS if any(report.findings for report in reports) else DONE


def _kind_of(reference: str) -> CheckedKind:
    name = reference.rpartition(":")[2]
    is_fusion = name not in registry.installed_names("modality") and name in registry.installed_names("fusion")
    return "fusion" if is_fusion else "modality"


def _list_checks(kind: CheckedKind, tier: Tier, *, as_json: bool) -> int:
    from crema_core.testing.check import checks_up_to

    checks = checks_up_to(tier, kind=kind)
    facts = [{"check": own.name, "tier": own.tier, "documentation": own.documentation} for own in checks]
    lines = [f"{check.tier:<6}  {check.name}: {check.summary}" for check in checks]
    print_result(facts, "\n".join(lines), as_json=as_json)
    return DONE


def _doctor(arguments: argparse.Namespace) -> int:
    from crema_core.plugins.doctor import examine

    diagnosis = examine()
    packages = [[own.name, own.version, _place(own)] for own in diagnosis.packages]
    lines = [table([["what", "value"], *map(list, diagnosis.environment.items())]), ""]
    lines += [table([["package", "version", "place"], *packages]), ""]
    lines.append(f"{len(diagnosis.findings)} to repair:" if diagnosis.findings else "Nothing to repair.")
    for number, found in enumerate(diagnosis.findings, start=1):
        lines.append(f"{number}. {found.kind}: {found.text}")
        lines += [f"   {line}" for line in found.detail.splitlines()]
    print_result(diagnosis.describe(), "\n".join(lines), as_json=arguments.json)
    return FINDINGS if diagnosis.findings else DONE


def _place(package: Distribution) -> str:
    """Return where a package's files lie; of an editable one that is the folder of its sources."""
    if not package.editable:
        return package.location
    return f"{package.source or 'unknown folder'} (editable; metadata in {package.location})"


def _new(arguments: argparse.Namespace) -> int:
    from crema_core.cli.scaffold import look_at, new_package

    place = new_package(arguments.name, kind=arguments.kind, encoder=arguments.encoder, output=arguments.output)
    print(f"{place}: a package that works as it is. Next:")
    print(f"  pip install -e '{place}[test]'")
    print(f"  pytest {place}")
    print(f"  {look_at(arguments.name, arguments.kind)}")
    return 0
