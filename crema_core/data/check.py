"""A fast look at a data file before hours are spent on it: what is in it and what is wrong with it.

Nothing is decoded; a broken file inside an existing path is found when it is read.
"""

from __future__ import annotations

import os
from collections import Counter, defaultdict
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from crema_core.data.manifest import Record, describe_missing, missing_files, scan_manifest

Kind = Literal["line", "missing", "duplicate", "empty", "senseless"]


@dataclass(frozen=True)
class Finding:
    """Something to correct.

    Attributes:
        kind: `line` (cannot be read), `missing` (file), `duplicate` (id), `empty` (question or answer), `senseless`
            (no source of any wanted sense).
        text: the finding as a sentence.
        lines: the manifest lines concerned, from 1.
    """

    kind: Kind
    text: str
    lines: tuple[int, ...]


@dataclass(frozen=True)
class CheckReport:
    """What a data file holds.

    Attributes:
        num_samples: usable lines.
        senses: number of samples that have each sense.
        types: number of samples of each question type.
        unused: senses in the file that were not asked for.
        findings: what to correct; empty when the file is fine.
    """

    num_samples: int
    senses: dict[str, int]
    types: dict[str, int]
    unused: tuple[str, ...]
    findings: tuple[Finding, ...]


def check_manifest(path: str | os.PathLike[str], *, modalities: Collection[str] | None = None) -> CheckReport:
    """Check a manifest.

    Args:
        path: the JSONL file.
        modalities: senses wanted; None: every installed one.

    Raises:
        ManifestError: when the file itself cannot be read.
    """
    path = Path(path)
    scan = scan_manifest(path, modalities=modalities)
    records = scan.records
    findings = [
        Finding("line", f"Line {bad.line} cannot be used: {bad.sentence}", (bad.line,)) for bad in scan.problems
    ]
    if absent := missing_files(records):
        text = describe_missing(path, absent, num_samples=len(records))
        findings.append(Finding("missing", text, tuple(record.line for record, _ in absent)))
    findings += check_records(records)
    return CheckReport(
        num_samples=len(records),
        senses=dict(Counter(name for record in records for name in record.sources)),
        types=dict(Counter(record.type for record in records)),
        unused=scan.unused,
        findings=tuple(findings),
    )


def check_records(records: Sequence[Record]) -> list[Finding]:
    """Return what is wrong with usable lines: repeated ids, empty texts, samples without any source."""
    findings = _duplicates(records)
    for field in ("question", "answer"):
        lines = [record.line for record in records if not getattr(record, field).strip()]
        findings += _several("empty", lines, f"an empty {field}")
    lines = [record.line for record in records if not record.sources]
    return findings + _several("senseless", lines, "no source at all")


def _duplicates(records: Sequence[Record]) -> list[Finding]:
    lines = defaultdict(list)
    for record in records:
        lines[record.id].append(record.line)
    return [
        Finding("duplicate", f"The id '{name}' is used on lines {', '.join(map(str, own))}.", tuple(own))
        for name, own in lines.items()
        if len(own) > 1
    ]


def _several(kind: Kind, lines: Sequence[int], what: str) -> list[Finding]:
    if not lines:
        return []
    subject = "1 sample has" if len(lines) == 1 else f"{len(lines):,} samples have"
    return [Finding(kind, f"{subject} {what}, first: line {lines[0]}.", tuple(lines))]
