"""`crema data`: named data sets and the state of data files. Listing and preparing import no torch."""

from __future__ import annotations

import argparse
from dataclasses import asdict, replace
from typing import TYPE_CHECKING

from crema_core.cli.inputs import add_shared, help_text, print_result
from crema_core.common.tables import counted, table

if TYPE_CHECKING:
    from crema_core.data.check import CheckReport

FINDINGS = 3
NUM_LINES = 10

HELP = help_text("data")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the three actions and their options."""
    actions = parser.add_subparsers(dest="action", required=True, metavar="{list,prepare,check}")
    listing = actions.add_parser("list", help="one line per data set; --json has layouts, prompts and licences")
    add_shared(listing, "json")
    make = actions.add_parser("prepare", help="write the data file of one split")
    make.add_argument("name", metavar="NAME", help="a name from the list, or distribution:name")
    make.add_argument("--root", required=True, metavar="DIR", help="folder with the official files")
    make.add_argument("--split", required=True, metavar="S", help="one of the data set's splits")
    make.add_argument("--out", required=True, metavar="FILE.jsonl", help="the data file to write")
    add_shared(make, "modalities", help="default: those installed whose folder exists")
    make.add_argument("--skip-missing", action="store_true", help="leave out questions whose media are missing")
    make.add_argument("--replace", action="store_true", help="overwrite an existing file")
    check = actions.add_parser("check", help="look for what is wrong; exit code 3 when something is")
    check.add_argument("files", nargs="+", metavar="FILE.jsonl", help="data files, for example of all splits")
    add_shared(check, "modalities", help="modalities to check; default: every installed one")
    check.add_argument("--deep", action="store_true", help="read every source once")
    add_shared(check, "json")


def run(arguments: argparse.Namespace) -> int:
    """Run one action."""
    return {"list": _list, "prepare": _prepare, "check": _check}[arguments.action](arguments)


def _list(arguments: argparse.Namespace) -> int:
    from crema_core.datasets.prepare import list_datasets

    records = list_datasets()
    facts = [
        {"distribution": own.distribution, "version": own.version, "name": own.name, "error": own.error}
        | (own.spec.describe() if own.spec else {})
        for own in records
    ]
    rows = [["name", "splits", "modalities", "package", "summary"]]
    rows += [
        [own.name, " ".join(own.spec.splits), " ".join(own.spec.modalities), own.distribution, own.spec.summary]
        for own in records
        if own.spec
    ]
    errors = [own.error for own in records if own.error]
    print_result(facts, "\n".join([table(rows), *errors]), as_json=arguments.json)
    return 0


def _prepare(arguments: argparse.Namespace) -> int:
    from crema_core.datasets.prepare import find_dataset, prepare

    done = prepare(
        arguments.name,
        root=arguments.root,
        split=arguments.split,
        out=arguments.out,
        modalities=arguments.modalities,
        missing="skip" if arguments.skip_missing else "error",
        replace=arguments.replace,
    )
    print(f"{counted(done.num_lines, 'question')} with {', '.join(done.modalities)}: {done.path}")
    if done.num_skipped:
        print(f"{counted(done.num_skipped, 'question')} left out, because a source of theirs is missing")
    for modality, reason in done.left_out.items():
        print(f"without {modality}: {reason}")
    for note in find_dataset(arguments.name).notes:
        print(f"note: {note}")
    return 0


def _check(arguments: argparse.Namespace) -> int:
    from crema_core.data.check import check_data_file, check_shared, check_sources

    reports = {path: check_data_file(path, modalities=arguments.modalities) for path in arguments.files}
    shared = check_shared(arguments.files, modalities=arguments.modalities)
    if arguments.deep:
        from crema_core.common.progress import StatusLine

        status = StatusLine()
        deep = check_sources(arguments.files, modalities=arguments.modalities, say=status.show)
        status.done()
        reports = {path: replace(own, findings=(*own.findings, *deep.findings[path])) for path, own in reports.items()}
        shared += deep.shared
    facts = {"files": {path: asdict(own) for path, own in reports.items()}, "shared": [asdict(own) for own in shared]}
    parts = [_page(path, own) for path, own in reports.items()]
    if len(reports) > 1:
        parts.append("\n".join(["shared between files:", *([f"  {own.text}" for own in shared] or ["  nothing"])]))
    print_result(facts, "\n\n".join(parts), as_json=arguments.json)
    return FINDINGS if shared or any(own.findings for own in reports.values()) else 0


def _page(path: str, report: CheckReport) -> str:
    modalities = ", ".join(f"{name} {count:,}" for name, count in report.modalities.items()) or "no modality"
    parts = [f"{path}: {counted(report.num_samples, 'sample')} ({modalities})"]
    if report.balance:
        rows = [["questions", "number", "answers", "most frequent answer", "share"]]
        for own in report.balance:
            counts = [f"{own.num_questions:,}", f"{own.num_answers:,}"]
            rows.append([own.type or "without type", *counts, own.answer, f"{own.share:.1%}"])
        parts.append(table(rows))
    if report.ignored:
        keys = [
            f"{own} {'not asked for' if own.installed else 'no field or installed modality'}" for own in report.ignored
        ]
        parts.append(f"not read: {'; '.join(keys)}")
    found = [f"- {own.text}{_lines(own.lines)}" for own in report.findings]
    parts.append("\n".join([f"{counted(len(found), 'finding')}:", *found]) if found else "nothing to correct")
    return "\n\n".join(parts)


def _lines(lines: tuple[int, ...]) -> str:
    if len(lines) < 2:
        return ""
    shown = ", ".join(map(str, lines[:NUM_LINES]))
    return f" Lines {shown}{f' and {len(lines) - NUM_LINES:,} more' if len(lines) > NUM_LINES else ''}."
