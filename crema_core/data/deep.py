"""Reading every source of data files once, as training would: what is damaged, too long or short, or there twice."""

from __future__ import annotations

import hashlib
import os
from collections import defaultdict
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

from crema_core.data.check import Finding, Shared
from crema_core.data.length import length_s
from crema_core.data.manifest import Record, scan_manifest
from crema_core.data.span import file_of, split_span
from crema_core.errors import MediaError
from crema_core.modality import BuildContext, Modality, load_modality_class
from crema_core.plugins import registry

MAX_DIFFERENCE_S, MAX_DIFFERENCE = 1.0, 0.1
"""Two sources of a sample may differ in length by this many seconds, and by this share of the longer one."""


@dataclass(frozen=True)
class DeepCheck:
    """What reading found.

    Attributes:
        findings: by data file.
        shared: equal files of different names in two data files.
    """

    findings: dict[str, list[Finding]]
    shared: tuple[Shared, ...]


def check_sources(
    paths: Sequence[str | os.PathLike[str]],
    *,
    modalities: Collection[str] | None = None,
    say: Callable[[str], None] = lambda text: None,
) -> DeepCheck:
    """Read every source of every sample, each once.

    Args:
        paths: data files.
        modalities: senses wanted; None: every installed one.
        say: told about progress.

    Raises:
        ManifestError: when a data file cannot be read.
        PluginError: when a sense's package cannot be used.
    """
    records = {str(path): scan_manifest(Path(path), modalities=modalities).records for path in paths}
    readers = {name: _reader(name) for name in sorted({n for own in records.values() for r in own for n in r.sources})}
    problems: dict[tuple[str, tuple[str, ...]], str] = {}
    done = 0
    for record in (record for own in records.values() for record in own):
        for name, source in record.sources.items():
            key = (name, record.paths(name))
            if key in problems or not all(Path(file_of(path)).exists() for path in key[1]):
                continue
            problems[key] = _problem(readers[name], source)
            done += 1
            say(f"reading sources: {done:,}")
    digests = {path: _digests(own) for path, own in records.items()}
    findings = {
        path: [*_damaged(own, problems), *_lengths(own), *_twice(own, digests[path])] for path, own in records.items()
    }
    return DeepCheck(findings, tuple(_across(digests, records)))


def _reader(name: str) -> Modality:
    plugin = registry.resolve(name)
    return load_modality_class(plugin)(plugin.options, BuildContext())


def _problem(modality: Modality, source: object) -> str:
    try:
        modality.prepare(source)
    except MediaError as error:
        return str(error)
    return ""


def _damaged(records: Sequence[Record], problems: dict[tuple[str, tuple[str, ...]], str]) -> list[Finding]:
    lines: defaultdict[tuple[str, str], list[int]] = defaultdict(list)
    for record in records:
        for name in record.sources:
            if text := problems.get((name, record.paths(name)), ""):
                lines[(name, text)].append(record.line)
    return [Finding("damaged", f"{name}: {text}", tuple(own)) for (name, text), own in lines.items()]


def _lengths(records: Sequence[Record]) -> list[Finding]:
    known: dict[str, float | None] = {}
    past_end, different = [], []
    for record in records:
        lasts: dict[str, float] = {}
        for name in record.sources:
            for path in record.paths(name):
                file, start_s, end_s = split_span(path)
                if file not in known:
                    known[file] = length_s(file)
                length = known[file]
                if length is None:
                    continue
                if max(start_s or 0.0, end_s or 0.0) > length + MAX_DIFFERENCE_S:
                    past_end.append((record.line, f"{Path(path).name} lasts {length:.1f} s"))
                lasts[name] = min(length, end_s or length) - (start_s or 0.0)
        if len(lasts) > 1:
            gap = max(lasts.values()) - min(lasts.values())
            if gap > MAX_DIFFERENCE_S and gap > MAX_DIFFERENCE * max(lasts.values()):
                listed = ", ".join(f"{name} {seconds:.1f} s" for name, seconds in lasts.items())
                different.append((record.line, listed))
    return [
        *_first("a part beyond the end of its file", past_end),
        *_first("sources of different lengths", different),
    ]


def _first(what: str, found: Sequence[tuple[int, str]]) -> list[Finding]:
    if not found:
        return []
    subject = "1 sample has" if len(found) == 1 else f"{len(found):,} samples have"
    line, detail = found[0]
    text = f"{subject} {what}, first: line {line} ({detail})."
    return [Finding("length", text, tuple(dict.fromkeys(line for line, _ in found)))]


def _digests(records: Sequence[Record]) -> dict[str, str]:
    """Return the sha256 of every file, by its real path; files of a folder count one by one."""
    named = {file_of(path) for record in records for name in record.sources for path in record.paths(name)}
    files: set[str] = set()
    for path in map(Path, named):
        inside = (
            [own for own in path.rglob("*") if own.is_file()] if path.is_dir() else [path] if path.is_file() else []
        )
        files |= {os.path.realpath(own) for own in inside}
    found = {}
    for file in sorted(files):
        with Path(file).open("rb") as stream:
            found[file] = hashlib.file_digest(stream, "sha256").hexdigest()
    return found


def _twice(records: Sequence[Record], digests: dict[str, str]) -> list[Finding]:
    files: defaultdict[str, list[str]] = defaultdict(list)
    for file, digest in digests.items():
        files[digest].append(file)
    lines = _lines_of(records)
    found = []
    for own in files.values():
        # Equal pictures inside folders are still rooms and pauses; only whole sources count.
        named = [file for file in own if file in lines]
        if len(named) > 1:
            text = f"The same content is in {' and '.join(Path(file).name for file in named)}."
            found.append(Finding("duplicate", text, tuple(sorted({line for file in named for line in lines[file]}))))
    return found


def _across(digests: dict[str, dict[str, str]], records: dict[str, list[Record]]) -> list[Shared]:
    found = []
    for left, right in combinations(digests, 2):
        ours, theirs = _lines_of(records[left]), _lines_of(records[right])
        by_digest: defaultdict[str, list[str]] = defaultdict(list)
        for file in ours:
            if file in digests[left]:
                by_digest[digests[left][file]].append(file)
        pairs = [
            (own, file) for file in theirs for own in by_digest.get(digests[right].get(file, ""), []) if own != file
        ]
        if pairs:
            first, second = (Path(file).name for file in pairs[0])
            what = "1 file is" if len(pairs) == 1 else f"{len(pairs):,} files are"
            text = f"{what} equal in {Path(left).name} and {Path(right).name}, first: {first} and {second}."
            lines = {
                left: tuple(sorted({line for own, _ in pairs for line in ours[own]})),
                right: tuple(sorted({line for _, file in pairs for line in theirs[file]})),
            }
            found.append(Shared("content", text, lines))
    return found


def _lines_of(records: Sequence[Record]) -> dict[str, list[int]]:
    lines: defaultdict[str, list[int]] = defaultdict(list)
    for record in records:
        for file in {os.path.realpath(file_of(path)) for name in record.sources for path in record.paths(name)}:
            lines[file].append(record.line)
    return lines
