"""A look at data files before hours are spent on them: what is in them and what is wrong with them.

`check_data_file` and `check_shared` decode nothing; `check_sources` reads every source once, as training would, and
finds what is damaged, too long or short, or there twice. Nothing here imports torch before a source is read.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Hashable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Literal

from crema_core.data.data_file import IgnoredKey, Record, Source, scan_data_file, unusable_samples
from crema_core.data.reading import Fault, Files, Found, build_readers, read_once
from crema_core.data.sampling import file_of, split_span
from crema_core.data.unusable import SourceCheck, Unusable, Why
from crema_core.errors import CremaError

Kind = Literal[
    "line",
    "key",
    "missing",
    "blocked",
    "ending",
    "duplicate",
    "empty",
    "senseless",
    "balance",
    "damaged",
    "modality",
    "length",
    "tokens",
    "scale",
]
ONE_SIDED_SHARE, ONE_SIDED_NUMBER = 0.9, 20
"""From this share of equal answers among so many questions on, guessing that answer looks like understanding."""
NUM_SHOWN = 10
"""Line numbers, or runs of them, in the text of a finding; its `lines` have all."""
MAX_DIFFERENCE_S, MAX_DIFFERENCE = 1.0, 0.1
"""Two sources of a sample may differ in length by this many seconds, and by this share of the longer one."""


@dataclass(frozen=True)
class Finding:
    """Something to correct."""

    # `line` (cannot be read), `key` (nearly the name of a field or modality), `missing` (file), `blocked` (a pipe, or a
    # file that this user may not read), `ending` (of a file that its modality does not read), `duplicate` (id,
    # question, choice or file), `empty` (question, answer or file), `senseless` (no source of any wanted modality),
    # `balance` (nearly always one answer), `damaged` (file), `modality` (whose package fails on a source or
    # altogether), `length` (of a file), `tokens` (answers that a language model cannot tell apart, see
    # `crema_core.evaluation.answer_tokens`), `scale` (numbers that are unlikely in the unit they are read in, with the
    # option that says otherwise)
    kind: Kind
    text: str  # the finding as a sentence
    lines: tuple[int, ...]  # the data file lines concerned, from 1


@dataclass(frozen=True)
class Shared:
    """Something two data files have in common: if they are splits, what was trained on is asked again."""

    # `id` (of lines without any file), `source` (the same file) or `content` (equal files of different names)
    kind: Literal["id", "source", "content"]
    text: str  # the finding as a sentence
    lines: dict[str, tuple[int, ...]]  # for each file, the lines concerned, from 1


@dataclass(frozen=True)
class Balance:
    """How the answers of one question type are spread."""

    type: str  # of the questions; empty when the lines have none
    num_questions: int  # of this type
    num_answers: int  # different answers; of multiple choice, different letters
    answer: str  # the most frequent one
    share: float  # its share, what always giving it would score


@dataclass(frozen=True)
class CheckReport:
    """What a data file holds."""

    num_samples: int  # usable lines
    modalities: dict[str, int]  # number of samples that have each modality
    types: dict[str, int]  # number of samples of each question type
    unused: tuple[str, ...]  # modalities in the file that were not asked for
    findings: tuple[Finding, ...]  # what to correct; empty when the file is fine
    balance: tuple[Balance, ...] = ()  # spread of the answers, by type
    ignored: tuple[IgnoredKey, ...] = ()  # keys that nothing reads, `unused` among them, with their counts


def check_data_file(path: str | os.PathLike[str], *, modalities: Collection[str] | None = None) -> CheckReport:
    """Check a data file.

    Args:
        path: the JSONL file.
        modalities: modalities wanted; None: every installed one.

    Raises:
        DataFileError: when the file itself cannot be read.
    """
    path = Path(path)
    scan = scan_data_file(path, modalities=modalities)
    records = scan.records
    findings = [
        Finding("line", f"Line {bad.line} cannot be used: {bad.sentence}", (bad.line,)) for bad in scan.problems
    ]
    findings += [
        Finding("key", f"A key is neither a field nor an installed modality, and is ignored: {own}.", (own.line,))
        for own in scan.ignored
        if own.near
    ]
    unusable = unusable_samples(((own.line, own) for own in records), name=path.name, folder=path.parent)
    findings += _unusable(unusable, num_samples=len(records))
    findings += check_records(records)
    balance = answer_balance(records)
    findings += _one_sided(records, balance)
    return CheckReport(
        num_samples=len(records),
        modalities=dict(Counter(name for record in records for name in record.sources)),
        types=dict(Counter(record.type for record in records)),
        unused=tuple(own.name for own in scan.ignored if own.installed),
        findings=tuple(findings),
        balance=balance,
        ignored=scan.ignored,
    )


def check_shared(
    paths: Sequence[str | os.PathLike[str]], *, modalities: Collection[str] | None = None
) -> tuple[Shared, ...]:
    """Return what data files share, pair by pair: sources of any modality, and ids of lines without any.

    Ids are numbers of one file in most data sets, so of lines that have files only these are compared.

    Args:
        paths: data files, usually the splits of one data set.
        modalities: modalities wanted; None: every installed one.
    """
    records = {str(path): scan_data_file(Path(path), modalities=modalities).records for path in paths}
    found = []
    for left, right in combinations(records, 2):
        bare = [[record for record in records[name] if not record.sources] for name in (left, right)]
        ids = [_lines_by(own, lambda record: [record.id]) for own in bare]
        files = [_lines_by(records[name], _files) for name in (left, right)]
        in_ids, in_files = ([(key, key) for key in own if key in other] for own, other in (ids, files))
        text = "{count} in both {left} and {right}, first: '{first}'."
        found += _in_both("id", "id", (left, right), ids, in_ids, text)
        text = "{count} used by both {left} and {right}, first: {first}."
        found += _in_both("source", "source", (left, right), files, in_files, text)
    return tuple(found)


def check_records(records: Sequence[Record]) -> list[Finding]:
    """Return what is wrong with usable lines: repeated ids, questions or choices, empty texts, no source at all."""
    findings = _duplicates(records) + _repeated(records) + _repeated_choices(records)
    for field in ("question", "answer"):
        lines = [record.line for record in records if not getattr(record, field).strip()]
        findings += _several("empty", lines, f"an empty {field}")
    lines = [record.line for record in records if not record.sources]
    return findings + _several("senseless", lines, "no source at all")


_UNUSABLE: Mapping[Why, tuple[Kind, str]] = {
    "missing": ("missing", "a missing file"),
    "blocked": ("blocked", "a file that cannot be opened"),
    "empty": ("empty", "an empty file"),
    "ending": ("ending", "a file that its modality does not read"),
}


def _unusable(unusable: Sequence[Unusable], *, num_samples: int) -> list[Finding]:
    """Return a finding for each way in which files cannot be used."""
    found = []
    for why, (kind, what) in _UNUSABLE.items():
        if own := [sample for sample in unusable if sample.why == why]:
            verb, first = "has" if len(own) == 1 else "have", own[0]
            reason = f" {first.reason}" if why in ("ending", "blocked") else ""
            text = (
                f"{len(own):,} of {num_samples:,} samples {verb} {what}, first: {first.source}{reason} (line "
                f"{first.line} of {first.data})."
            )
            found.append(Finding(kind, text, tuple(sample.line for sample in own)))
    return found


def _repeated_choices(records: Sequence[Record]) -> list[Finding]:
    cases = [(own.line, own.choices) for own in records if own.choices and len(set(own.choices)) < len(own.choices)]
    twice = [repr(next(text for text in choices if choices.count(text) > 1)) for _, choices in cases]
    return _several("duplicate", [line for line, _ in cases], "equal choices", twice)


def numbers(lines: Sequence[int], *, most: int) -> str:
    """Return line numbers as text, neighbours together; of many the first.

    Example:
        >>> numbers([3, 4, 5, 9, 12], most=3)
        '3-5, 9, 12'
        >>> numbers(range(2, 1000, 2), most=3)
        '2, 4, 6 and 496 more'
    """
    runs: list[list[int]] = []
    for line in lines:
        if runs and line == runs[-1][1] + 1:
            runs[-1][1] = line
        else:
            runs.append([line, line])
    shown = runs[:most]
    left = len(lines) - sum(last - first + 1 for first, last in shown)
    ends = (
        f"{first}-{last}" if last - first > 1 else ", ".join(map(str, range(first, last + 1))) for first, last in shown
    )
    text = ", ".join(ends)
    return f"{text} and {left:,} more" if left else text


def _duplicates(records: Sequence[Record]) -> list[Finding]:
    return [
        Finding("duplicate", f"The id '{name}' is used on lines {numbers(own, most=NUM_SHOWN)}.", tuple(own))
        for name, own in _lines_of_repeated(records, lambda record: record.id).items()
    ]


def _several(kind: Kind, lines: Sequence[int], what: str, details: Sequence[str] = ()) -> list[Finding]:
    if not lines:
        return []
    subject = "1 sample has" if len(lines) == 1 else f"{len(lines):,} samples have"
    first = f"line {lines[0]}{f' ({details[0]})' if details else ''}"
    return [Finding(kind, f"{subject} {what}, first: {first}.", tuple(dict.fromkeys(lines)))]


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
    groups = list(_lines_of_repeated(records, _asked).values())
    if not groups:
        return []
    subject = "1 question is" if len(groups) == 1 else f"{len(groups):,} questions are"
    first = numbers(groups[0], most=NUM_SHOWN)
    text = f"{subject} asked more than once about the same sources, first: lines {first}."
    return [Finding("duplicate", text, tuple(line for own in groups for line in own))]


def _asked(record: Record) -> Hashable:
    """Return what a record asks about what, without its answer."""
    return record.question, record.choices, *((name, record.paths(name)) for name in sorted(record.sources))


def _lines_of_repeated(records: Sequence[Record], key: Callable[[Record], Hashable]) -> dict[Hashable, list[int]]:
    """Return the lines of what more than one record has, in the order of its first lines.

    Hashes tell first what may be repeated: a table of what every record has would be as large as the records.
    """
    once, again = set[int](), set[int]()
    for record in records:
        (again if (own := hash(key(record))) in once else once).add(own)
    del once
    found: defaultdict[Hashable, list[int]] = defaultdict(list)
    for record in records if again else ():
        if hash(own_key := key(record)) in again:
            found[own_key].append(record.line)
    return {own_key: lines for own_key, lines in found.items() if len(lines) > 1}


def _files(record: Record) -> list[str]:
    return [os.path.realpath(file_of(path)) for name in record.sources for path in record.paths(name)]


def _lines_by(records: Sequence[Record], keys: Callable[[Record], list[str]]) -> dict[str, list[int]]:
    found: defaultdict[str, list[int]] = defaultdict(list)
    for record in records:
        for key in dict.fromkeys(keys(record)):
            found[key].append(record.line)
    return found


def _in_both(
    kind: Literal["id", "source", "content"],
    noun: str,
    names: tuple[str, str],
    tables: Sequence[dict[str, list[int]]],
    pairs: Sequence[tuple[str, str]],
    text: str,
) -> list[Shared]:
    """Return what two data files share: `pairs` of keys of their `tables` of lines."""
    if not pairs:
        return []
    count = f"{len(pairs):,} {noun}{'s are' if len(pairs) > 1 else ' is'}"
    lines = {
        name: tuple(sorted({line for key in keys for line in table[key]}))
        for name, table, keys in zip(names, tables, zip(*pairs, strict=True), strict=True)
    }
    left, right = (Path(name).name for name in names)
    if left == right:
        left, right = names
    files = [Path(own) for own in pairs[0]]
    return [Shared(kind, text.format(count=count, left=left, right=right, first=pairs[0][0], files=files), lines)]


@dataclass(frozen=True)
class DeepCheck:
    """What reading found."""

    findings: dict[str, list[Finding]]  # by data file
    shared: tuple[Shared, ...]  # equal files of different names in two data files


def check_sources(
    paths: Sequence[str | os.PathLike[str]],
    *,
    modalities: Collection[str] | None = None,
    num_processes: int = 1,
    keep: str | os.PathLike[str] | None = None,
    say: Callable[[str], None] = lambda text: None,
) -> DeepCheck:
    """Read every source of every sample, each once.

    What a modality's own code raises or returns against the contract is a finding too, as is a modality that cannot be
    built; everything else is read all the same. Files that are missing, empty or of a kind their modality does not read
    are findings of `check_data_file` and are passed over.

    Args:
        paths: data files.
        modalities: modalities wanted; None: every installed one.
        num_processes: processes that read.
        keep: file that keeps what was read; what it has already, unchanged, is not read again.
        say: told about progress.

    Raises:
        DataFileError: when a data file cannot be read, or `keep` not be used.
        WorkerError: when one of several processes ends.
    """
    records = {str(path): scan_data_file(Path(path), modalities=modalities).records for path in paths}
    everything = [record for own in records.values() for record in own]
    readers = build_readers(sorted({name for record in everything for name in record.sources}))
    names_and_sizes = SourceCheck()
    sources: dict[Files, Source] = {}
    for record in everything:
        for name, source in record.sources.items():
            if name in readers.built and not any(names_and_sizes.fault(name, path) for path in record.paths(name)):
                sources[name, record.paths(name)] = source
    place = None if keep is None else Path(keep)
    read = read_once(sources, readers, num_processes=num_processes, keep=place, say=say)
    digests = _all_digests(records, say)
    say("comparing the lengths of sources")
    findings = {
        path: [
            *_absent(own, readers.absent),
            *_damaged(own, read),
            *_unlikely(own, read),
            *_lengths(own),
            *_twice(own, digests[path]),
        ]
        for path, own in records.items()
    }
    return DeepCheck(findings, _across(digests, records))


_READING = re.compile(r", reading '.*?'(?=\. )")
"""Where messages of `crema_core.data.modality_calls` have the file that was read."""


def _absent(records: Sequence[Record], absent: Mapping[str, CremaError]) -> list[Finding]:
    return [
        Finding("modality", f"{name}: {error}", tuple(record.line for record in records if name in record.sources))
        for name, error in absent.items()
        if any(name in record.sources for record in records)
    ]


def _damaged(records: Sequence[Record], read: Mapping[Files, Found]) -> list[Finding]:
    lines: defaultdict[Fault, list[int]] = defaultdict(list)
    for record in records:
        for name in record.sources:
            found = read.get((name, record.paths(name)))
            if found and (fault := found.fault):
                lines[fault._replace(text=f"{name}: {fault.text}")].append(record.line)
    # A package at fault fails on every file in the same way: said once, with the first file.
    firsts: dict[tuple[str, str], Fault] = {}
    together: defaultdict[Fault, list[int]] = defaultdict(list)
    for fault, own in lines.items():
        same = _READING.sub("", fault.text) if fault.kind == "modality" else fault.text
        together[firsts.setdefault((fault.kind, same), fault)] += own
    return [Finding(fault.kind, fault.text, tuple(sorted(own))) for fault, own in together.items()]


def _unlikely(records: Sequence[Record], read: Mapping[Files, Found]) -> list[Finding]:
    """Return what looks wrong, a finding per sort: the first source in words, and the lines of all."""
    lines: defaultdict[str, list[int]] = defaultdict(list)
    first: dict[str, str] = {}
    for record in records:
        for name in record.sources:
            found = read.get((name, record.paths(name)))
            for own in found.doubts if found else ():
                lines[own.sort].append(record.line)
                first.setdefault(own.sort, f"{name}: {own.text}")
    findings = []
    for sort, own_lines in lines.items():
        numbers = tuple(dict.fromkeys(own_lines))
        more = f" {len(numbers) - 1:,} further samples look so too." if len(numbers) > 1 else ""
        findings.append(Finding("scale", first[sort] + more, numbers))
    return findings


def _lengths(records: Sequence[Record]) -> list[Finding]:
    from crema_core.data.clips import length_s

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
        *_several(
            "length", [line for line, _ in past_end], "a part beyond the end of its file", [t for _, t in past_end]
        ),
        *_several("length", [line for line, _ in different], "sources of different lengths", [t for _, t in different]),
    ]


def _all_digests(records: Mapping[str, Sequence[Record]], say: Callable[[str], None]) -> dict[str, dict[str, str]]:
    """Return by data file what tells the content of every file apart, by its real path; those in a folder one by one.

    Only files of equal size can be equal, so the sha256 of those alone is taken; of others their own path stands for
    it.
    """
    files = {path: _real_files(own) for path, own in records.items()}
    sizes = {file: Path(file).stat().st_size for own in files.values() for file in own}
    counts = Counter(sizes.values())
    digests: dict[str, str] = {}
    alike = sorted(file for file, size in sizes.items() if counts[size] > 1)
    for number, file in enumerate(alike, start=1):
        say(f"comparing files of equal size: {number:,} of {len(alike):,}")
        with Path(file).open("rb") as stream:
            digests[file] = hashlib.file_digest(stream, "sha256").hexdigest()
    return {path: {file: digests.get(file, file) for file in sorted(own)} for path, own in files.items()}


def _real_files(records: Sequence[Record]) -> set[str]:
    named = {file_of(path) for record in records for name in record.sources for path in record.paths(name)}
    files: set[str] = set()
    for path in map(Path, named):
        inside = (
            [own for own in path.rglob("*") if own.is_file()] if path.is_dir() else [path] if path.is_file() else []
        )
        files |= {os.path.realpath(own) for own in inside}
    return files


def _twice(records: Sequence[Record], digests: dict[str, str]) -> list[Finding]:
    files: defaultdict[str, list[str]] = defaultdict(list)
    for file, digest in digests.items():
        files[digest].append(file)
    lines = _lines_by(records, _files)
    found = []
    for own in files.values():
        # Equal pictures inside folders are still rooms and pauses; only whole sources count.
        named = [file for file in own if file in lines]
        if len(named) > 1:
            text = f"The same content is in {' and '.join(Path(file).name for file in named)}."
            found.append(Finding("duplicate", text, tuple(sorted({line for file in named for line in lines[file]}))))
    return found


def _across(digests: dict[str, dict[str, str]], records: dict[str, list[Record]]) -> tuple[Shared, ...]:
    found: list[Shared] = []
    for left, right in combinations(digests, 2):
        ours, theirs = _lines_by(records[left], _files), _lines_by(records[right], _files)
        by_digest: defaultdict[str, list[str]] = defaultdict(list)
        for file in ours:
            if file in digests[left]:
                by_digest[digests[left][file]].append(file)
        pairs = [
            (own, file) for file in theirs for own in by_digest.get(digests[right].get(file, ""), []) if own != file
        ]
        text = "{count} equal in {left} and {right}, first: {files[0].name} and {files[1].name}."
        found += _in_both("content", "file", (left, right), (ours, theirs), pairs, text)
    return tuple(found)
