"""`crema cache`: what a folder of kept features holds, whether it is intact, and making room. Never imports torch."""

from __future__ import annotations

import argparse
import dataclasses
import sys
from pathlib import Path

from crema_core.cli.inputs import add_shared, duration_s, help_text, num_bytes, print_result
from crema_core.common.tables import table
from crema_core.features.cache.folder import ModalityReport, check, evict, summarize

USAGE, FINDINGS = 2, 3

HELP = help_text("cache")


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
        add_shared(action, "json")
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
    verb = "would be removed" if arguments.dry_run else "removed"
    text = f"{len(gone.files):,} files {verb}, {size_text(gone.num_bytes)}; {size_text(gone.left_bytes)} left"
    print_result(dataclasses.asdict(gone), text, as_json=arguments.json)
    return 0


def _show(folder: Path, *, as_json: bool) -> int:
    found = summarize(folder)
    rows = [["modality", "package", "kept", "sources", "shards", "size", "unused"], *map(_row, found.modalities)]
    lines = [table(rows), "", f"{size_text(found.num_bytes)} in all"]
    lines += [f"damaged: {name}: {text}" for name, text in found.unreadable.items()]
    lines += [f"set aside or left by a killed writer: {name}" for name in found.set_aside]
    print_result(dataclasses.asdict(found), "\n".join(lines), as_json=as_json)
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
    lines = [f"{own.file}{f', source {own.digest}' if own.digest else ''}: {own.text}" for own in damages]
    lines.append(f"{sum(intact.values()):,} intact, {len(damages):,} damaged")
    if damages:
        lines.append(f"They are encoded again when needed. Remove them with: crema cache evict {folder} --damaged")
    facts = {"intact": intact, "damaged": [dataclasses.asdict(own) for own in damages]}
    print_result(facts, "\n".join(lines), as_json=as_json)
    return FINDINGS if damages else 0


def size_text(size: float) -> str:
    """Return a size for people: "3.2 GB".

    >>> size_text(3_210_000_000)
    '3.2 GB'
    """
    for unit, factor in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if size >= factor:
            return f"{size / factor:,.1f} {unit}"
    return f"{size:,.0f} B"
