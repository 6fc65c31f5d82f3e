"""`crema plugins`: what is installed of every kind and what each modality takes.

Checks, repairs and new packages have files beside this.

`list` and `show` import light modules only, never torch.
"""

from __future__ import annotations

import argparse
import dataclasses
import importlib
import json
from typing import Any

from crema_core.common.tables import table
from crema_core.errors import PluginDisabledError, PluginError
from crema_core.plugins import registry
from crema_core.plugins.options import option_rows
from crema_core.plugins.registry import KINDS, Kind, KindName, PluginRecord

FINDINGS = 3

ACTIONS = {
    "check": ("crema_core.cli.plugins_check", "check a modality or a fusion against the contract"),
    "doctor": ("crema_core.cli.plugins_doctor", "find what is wrong with the environment, ready to paste"),
    "new": ("crema_core.cli.plugins_new", "write a package of any kind that works as it is"),
}
"""Actions in files of their own: name -> module, one line of help."""

HELP = """\
List what is installed of every kind (modalities, fusions, backbone families, encoders, data sets, metrics, presets,
hooks), show and check modalities, find what is wrong with packages, or begin a new one.

Listing imports the light modules of modalities and nothing else, never torch. Install a package with pip.

Example:
  crema plugins list
  crema plugins list --kind fusion
  crema plugins new radar --output ~/packages
  crema plugins new weighted --kind fusion --output ~/packages
  crema plugins check ~/packages/crema-radar
  crema plugins show video --json"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the two actions and their options."""
    actions = parser.add_subparsers(dest="action", required=True, metavar="{list,show,check,doctor,new}")
    listing = actions.add_parser("list", help="one line per installed plugin, by kind")
    listing.add_argument("--kind", choices=tuple(KINDS), metavar="KIND", help=f"{', '.join(KINDS)}; default: all")
    listing.add_argument("--json", action="store_true", help="print JSON")
    listing.add_argument("--all", action="store_true", help="also disabled ones, entry points and notes")
    show = actions.add_parser("show", help="summary, inputs, options, weights and provenance of one sense")
    show.add_argument("name", metavar="NAME", help="a name from the list, or distribution:name")
    show.add_argument("--json", action="store_true", help="print JSON")
    for name, (module, summary) in ACTIONS.items():
        own = actions.add_parser(name, help=summary, description=summary)
        importlib.import_module(module).add_arguments(own)


def run(arguments: argparse.Namespace) -> int:
    """Run one action; `show` returns 3 for a sense that cannot be used, `check` and `doctor` for findings."""
    if arguments.action in ACTIONS:
        code: int = importlib.import_module(ACTIONS[arguments.action][0]).run(arguments)
        return code
    if arguments.action == "list":
        return _list(arguments.kind, as_json=arguments.json, everything=arguments.all)
    return _show(arguments.name, as_json=arguments.json)


def _list(kind: KindName | None, *, as_json: bool, everything: bool) -> int:
    records = [record for record in registry.list_plugins(kind) if everything or record.status != "disabled"]
    if as_json:
        print(json.dumps([dataclasses.asdict(record) for record in records], indent=2))
        return 0
    if not records:
        noun = "plugin" if kind is None else KINDS[kind].noun
        print(f"No {noun} is installed. Install one with pip, or see those switched off: crema plugins list --all")
        return 0
    print("\n\n".join(filter(None, (_section(own, records) for own in KINDS.values()))))
    for record in records:
        for line in filter(None, [record.error, *(f"note: {note}" for note in record.notes if everything)]):
            print(f"{record.name}: {line}")
        if everything:
            print(f"{record.name}: {record.reference}{' (editable)' if record.editable else ''}")
    return 0


def _section(kind: Kind, records: list[PluginRecord]) -> str:
    own = [record for record in records if record.kind == kind.name]
    columns = ["name", "package", "version", "status"]
    rows = [[record.name, record.distribution, record.version, record.status] for record in own]
    if any(record.summary for record in own):
        columns.append("summary")
        rows = [[*row, record.summary] for row, record in zip(rows, own, strict=True)]
    return f"{kind.name} ({kind.group})\n{table([columns, *rows])}" if own else ""


def _show(name: str, *, as_json: bool) -> int:
    try:
        facts = registry.describe(name)
    except PluginError as error:
        if not (records := _records_of(name)):
            raise
        return _show_unusable(records, error, as_json=as_json)
    print(json.dumps(facts, indent=2) if as_json else _page(facts))
    return 0


def _records_of(name: str) -> list[PluginRecord]:
    distribution, _, bare = name.rpartition(":")
    records = registry.list_modalities()
    return [record for record in records if record.name == bare and distribution in ("", record.distribution)]


def _show_unusable(records: list[PluginRecord], error: PluginError, *, as_json: bool) -> int:
    if as_json:
        print(json.dumps([dataclasses.asdict(record) for record in records], indent=2))
    else:
        rows = [[record.name, record.distribution, record.version, record.status] for record in records]
        print(table([["name", "package", "version", "status"], *rows]))
        print(error)
    return 0 if isinstance(error, PluginDisabledError) else FINDINGS


def _page(facts: dict[str, Any]) -> str:
    provider = f"{facts['distribution']} {facts['version']}" if facts["distribution"] else "registered in this process"
    rows = [
        ["package", provider],
        ["entry point", facts["reference"]],
        ["class", facts["factory"]],
        ["plugin API", facts["api_version"]],
        ["encoder", facts["encoder"]],
        ["feature width", str(facts["feature_dim"] or "the vision encoder's")],
        ["steps", "one per frame of the major sense" if facts["per_frame"] else "its own"],
        ["requires", ", ".join(facts["requires"]) or "nothing more"],
        ["status", facts["status"]],
    ]
    parts = [f"{facts['name']}: {facts['summary']}", table(rows), "inputs:\n" + _inputs(facts["inputs"])]
    parts.append("options:\n" + _options(facts["options"]))
    parts.append("weights:\n" + _assets(facts["assets"]))
    if facts["docs_url"]:
        parts.append(f"more: {facts['docs_url']}")
    return "\n\n".join(parts)


def _inputs(inputs: list[dict[str, Any]]) -> str:
    rows = [["kind", "files", "content"]]
    rows += [[entry["kind"], " ".join(entry["suffixes"]), entry["description"]] for entry in inputs]
    return table(rows) if inputs else "not declared"


def _options(schema: dict[str, Any]) -> str:
    rows = [[row.name, row.default, row.type, row.meaning] for row in option_rows(schema)]
    return table([["name", "default", "type", "meaning"], *rows]) if rows else "none"


def _assets(assets: list[dict[str, Any]]) -> str:
    rows = [["id", "size", "licence", "where"]]
    for asset in assets:
        size = f"{asset['size_bytes'] / 1e6:.1f} MB" if asset["size_bytes"] else "unknown"
        rows.append([asset["id"], size, asset["license"], asset["url"]])
    return table(rows) if assets else "none"
