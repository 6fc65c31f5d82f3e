"""A fast look at data files before hours are spent on them: what is in them and what is wrong with them.

Nothing is decoded here; `crema_core.data.deep` reads every source.
"""

from __future__ import annotations

import os
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from pathlib import Path
from typing import Literal

from crema_core.data.manifest import Record, describe_missing, missing_files, scan_manifest
from crema_core.data.span import file_of

Kind = Literal["line", "missing", "duplicate", "empty", "senseless", "balance", "damaged", "length"]

ONE_SIDED_SHARE, ONE_SIDED_NUMBER = 0.9, 20
"""From this share of equal answers among so many questions on, guessing that answer looks like understanding."""


@dataclass(frozen=True)
class Finding:
    """Something to correct.

    Attributes:
        kind: `line` (cannot be read), `missing` (file), `duplicate` (id, question or file), `empty` (question or
            answer), `senseless` (no source of any wanted sense), `balance` (nearly always one answer), `damaged`
            (file), `length` (of a file).
        text: the finding as a sentence.
        lines: the manifest lines concerned, from 1.
    """

    kind: Kind
    text: str
    lines: tuple[int, ...]


@dataclass(frozen=True)
class Shared:
    """Something two data files have in common: if they are splits, what was trained on is asked again.

    Attributes:
        kind: `id` (of lines without any file), `source` (the same file) or `content` (equal files of different names).
        text: the finding as a sentence.
        lines: for each file, the lines concerned, from 1.
    """

    kind: Literal["id", "source", "content"]
    text: str
    lines: dict[str, tuple[int, ...]]


@dataclass(frozen=True)
class Balance:
    """How the answers of one question type are spread.

    Attributes:
        type: of the questions; empty when the lines have none.
        num_questions: of this type.
        num_answers: different answers; of multiple choice, different letters.
        answer: the most frequent one.
        share: its share, what always giving it would score.
    """

    type: str
    num_questions: int
    num_answers: int
    answer: str
    share: float


@dataclass(frozen=True)
class CheckReport:
    """What a data file holds.

    Attributes:
        num_samples: usable lines.
        senses: number of samples that have each sense.
        types: number of samples of each question type.
        unused: senses in the file that were not asked for.
        findings: what to correct; empty when the file is fine.
        balance: spread of the answers, by type.
    """

    num_samples: int
    senses: dict[str, int]
    types: dict[str, int]
    unused: tuple[str, ...]
    findings: tuple[Finding, ...]
    balance: tuple[Balance, ...] = ()

    def with_findings(self, more: Sequence[Finding]) -> CheckReport:
        """Return the report with further findings."""
        return replace(self, findings=(*self.findings, *more))


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
    balance = answer_balance(records)
    findings += _one_sided(records, balance)
    return CheckReport(
        num_samples=len(records),
        senses=dict(Counter(name for record in records for name in record.sources)),
        types=dict(Counter(record.type for record in records)),
        unused=scan.unused,
        findings=tuple(findings),
        balance=balance,
    )


def check_shared(
    paths: Sequence[str | os.PathLike[str]], *, modalities: Collection[str] | None = None
) -> tuple[Shared, ...]:
    """Return what data files share, pair by pair: sources of any sense, and ids of lines without any.

    Ids are numbers of one file in most data sets, so of lines that have files only these are compared.

    Args:
        paths: data files, usually the splits of one data set.
        modalities: senses wanted; None: every installed one.
    """
    records = {str(path): scan_manifest(Path(path), modalities=modalities).records for path in paths}
    found = []
    for left, right in combinations(records, 2):
        ids = [_lines_by(records[name], _id_without_files) for name in (left, right)]
        files = [_lines_by(records[name], _files) for name in (left, right)]
        found += _in_both("id", (left, right), ids, "{count} in both {left} and {right}, first: '{first}'.")
        found += _in_both("source", (left, right), files, "{count} used by both {left} and {right}, first: {first}.")
    return tuple(found)


def check_records(records: Sequence[Record]) -> list[Finding]:
    """Return what is wrong with usable lines: repeated ids or questions, empty texts, samples without any source."""
    findings = _duplicates(records) + _repeated(records)
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


def answer_balance(records: Sequence[Record]) -> tuple[Balance, ...]:
    """Return how answers are spread, by question type; of multiple choice the letters count, not the texts."""
    answers: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for record in records:
        answers[record.type][_label(record)] += 1
    found = []
    for kind, counts in sorted(answers.items()):
        answer, most = counts.most_common(1)[0]
        found.append(Balance(kind, counts.total(), len(counts), answer, most / counts.total()))
    return tuple(found)


def _label(record: Record) -> str:
    return f"Option {record.choices.index(record.answer) + 1}" if record.choices else record.answer


def _one_sided(records: Sequence[Record], balance: Sequence[Balance]) -> list[Finding]:
    found = []
    for own in balance:
        if own.num_questions < ONE_SIDED_NUMBER or own.share < ONE_SIDED_SHARE:
            continue
        what = f"questions of type '{own.type}'" if own.type else "questions"
        lines = [record.line for record in records if (record.type, _label(record)) == (own.type, own.answer)]
        text = f"{own.share:.0%} of {own.num_questions:,} {what} have the answer '{own.answer}'."
        found.append(Finding("balance", text, tuple(lines)))
    return found


def _repeated(records: Sequence[Record]) -> list[Finding]:
    lines: defaultdict[tuple[object, ...], list[int]] = defaultdict(list)
    for record in records:
        sources = tuple((name, record.paths(name)) for name in sorted(record.sources))
        lines[(record.question, record.choices, sources)].append(record.line)
    groups = [own for own in lines.values() if len(own) > 1]
    if not groups:
        return []
    subject = "1 question is" if len(groups) == 1 else f"{len(groups):,} questions are"
    first = ", ".join(map(str, groups[0]))
    text = f"{subject} asked more than once about the same sources, first: lines {first}."
    return [Finding("duplicate", text, tuple(line for own in groups for line in own))]


def _files(record: Record) -> list[str]:
    return [os.path.realpath(file_of(path)) for name in record.sources for path in record.paths(name)]


def _id_without_files(record: Record) -> list[str]:
    return [] if record.sources else [record.id]


def _lines_by(records: Sequence[Record], keys: Callable[[Record], list[str]]) -> dict[str, list[int]]:
    found: defaultdict[str, list[int]] = defaultdict(list)
    for record in records:
        for key in dict.fromkeys(keys(record)):
            found[key].append(record.line)
    return found


def _in_both(
    kind: Literal["id", "source"], names: tuple[str, str], tables: Sequence[dict[str, list[int]]], text: str
) -> list[Shared]:
    both = [key for key in tables[0] if key in tables[1]]
    if not both:
        return []
    count = f"{len(both):,} {kind}{'s are' if len(both) > 1 else ' is'}"
    lines = {
        name: tuple(sorted({line for key in both for line in table[key]}))
        for name, table in zip(names, tables, strict=True)
    }
    left, right = (Path(name).name for name in names)
    if left == right:
        left, right = names
    sentence = text.format(count=count, left=left, right=right, first=both[0])
    return [Shared(kind, sentence, lines)]
