"""`crema cache`: what a folder of kept features holds, whether it is intact, and making room. Never imports torch."""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
from pathlib import Path

from crema_core.cli.inputs import duration_s, num_bytes
from crema_core.common.tables import table
from crema_core.features.cache.folder import Eviction, ModalityReport, check, evict, summarize

USAGE, FINDINGS = 2, 3

HELP = """\
Show, check or make smaller a folder of kept features (crema encode --cache, or fit with cache=DIR).

check reads every byte, compares checksums, and returns 3 when something is damaged; damaged features are encoded again
when they are needed. evict removes whole files, longest unused first, and only what its options say; nothing else ever
deletes from a cache.

Example:
  crema cache show features
  crema cache check features
  crema cache evict features --older-than 30d --max-size 200GB"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the three actions and their options."""
    actions = parser.add_subparsers(dest="action", required=True, metavar="{show,check,evict}")
    for name, text in (
        ("show", "modalities, sources, sizes and when they were last used"),
        ("check", "read everything and compare checksums"),
        ("evict", "remove features"),
    ):
        action = actions.add_parser(name, help=text)
        action.add_argument("folder", metavar="DIR", help="the cache")
        action.add_argument("--json", action="store_true", help="print JSON")
        if name == "evict":
            action.add_argument("--older-than", metavar="AGE", help="not used for so long: 12h, 30d")
            action.add_argument("--max-size", metavar="SIZE", help="then the longest unused, down to: 500MB, 20GB")
            action.add_argument("--damaged", action="store_true", help="damaged files, and what killed writers left")
            action.add_argument("--dry-run", action="store_true", help="only say what would be removed")


def run(arguments: argparse.Namespace) -> int:
    """Run the action; `check` returns 3 when something is damaged."""
    folder = Path(arguments.folder)
    if arguments.action == "show":
        return _show(folder, as_json=arguments.json)
    if arguments.action == "check":
        return _check(folder, as_json=arguments.json)
    if arguments.older_than is None and arguments.max_size is None and not arguments.damaged:
        print(
            "crema cache evict: nothing states what to remove. Accepted: --older-than AGE, --max-size SIZE, --damaged. "
            "Name at least one. Nothing was changed.",
            file=sys.stderr,
        )
        return USAGE
    gone = evict(
        folder,
        older_than_s=None if arguments.older_than is None else duration_s(arguments.older_than),
        max_bytes=None if arguments.max_size is None else num_bytes(arguments.max_size),
        damaged=arguments.damaged,
        dry=arguments.dry_run,
    )
    print(json.dumps(dataclasses.asdict(gone), indent=2) if arguments.json else _told(gone, dry=arguments.dry_run))
    return 0


def _show(folder: Path, *, as_json: bool) -> int:
    found = summarize(folder)
    if as_json:
        print(json.dumps(dataclasses.asdict(found), indent=2))
        return 0
    print(table([["modality", "package", "kept", "sources", "shards", "size", "unused"], *map(_row, found.modalities)]))
    print(f"\n{size_text(found.num_bytes)} in all")
    for name, text in found.unreadable.items():
        print(f"damaged: {name}: {text}")
    for name in found.set_aside:
        print(f"set aside or left by a killed writer: {name}")
    return 0


def _row(report: ModalityReport) -> list[str]:
    return [
        report.modality,
        f"{report.distribution} {report.version}".strip(),
        report.kept_in,
        f"{report.num_sources:,}",
        f"{report.num_shards:,}",
        size_text(report.num_bytes),
        f"{report.unused_s / 86400:.1f} d",
    ]


def _check(folder: Path, *, as_json: bool) -> int:
    intact, damages = check(folder)
    if as_json:
        print(json.dumps({"intact": intact, "damaged": [dataclasses.asdict(own) for own in damages]}, indent=2))
    else:
        for damage in damages:
            print(f"{damage.file}{f', source {damage.digest}' if damage.digest else ''}: {damage.text}")
        print(f"{sum(intact.values()):,} intact, {len(damages):,} damaged")
        if damages:
            print(f"They are encoded again when needed. Remove them with: crema cache evict {folder} --damaged")
    return FINDINGS if damages else 0


def _told(gone: Eviction, *, dry: bool) -> str:
    verb = "would be removed" if dry else "removed"
    return f"{len(gone.files):,} files {verb}, {size_text(gone.num_bytes)}; {size_text(gone.left_bytes)} left"


def size_text(size: float) -> str:
    """Return a size for people: "3.2 GB".

    >>> size_text(3_210_000_000)
    '3.2 GB'
    """
    for unit, factor in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if size >= factor:
            return f"{size / factor:,.1f} {unit}"
    return f"{size:,.0f} B"
