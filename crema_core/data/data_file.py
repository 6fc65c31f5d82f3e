"""The data file: one JSON object per line, one key per modality.

    {"id": "17", "question": "What is playing?", "answer": "a drum", "type": "sound", "audio": "clips/17.wav"}

`id`, `question` and `answer` are required; `choices`, `type`, `answers` (others that are right too), `dataset` (a name
of `crema data list`, which decides how answers are scored) and `meta` (an object of one's own, which nothing reads) are
optional. Every other key is the name of a modality with the path of its file (or a list of paths), relative to the data
file; `a.mp4#t=1,2` is a part of a file. A missing key, or null, is a missing modality. Every unusable line is reported
at once.

A key that is neither a field nor a wanted modality stops nothing, because a data file outlives the packages that are
installed: it is reported once, with the number of lines and the nearest name. A misspelt key is an error where its line
lacks something for it: a required field, the choices, or every source.
"""

from __future__ import annotations

import difflib
import json
import logging
import os
import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple, TypeVar

from crema_core.common.reading import parse_json, read_lines, shown
from crema_core.common.text import half_character
from crema_core.data.sampling import file_of
from crema_core.data.unusable import MAX_SKIPPED, OnError, SourceCheck, Unusable, settle
from crema_core.errors import DataFileError, ReadError
from crema_core.plugins.registry import installed_names
from crema_core.plugins.spec import ModalitySpec

logger = logging.getLogger(__name__)

Key = TypeVar("Key")
Value = TypeVar("Value")
Source = str | list[str]
Data = str | os.PathLike[str] | Sequence["Record | Mapping[str, object]"]
"""A data file, or samples: records, or mappings with the keys of a line and paths relative to the current folder."""
FIELDS = ("id", "question", "answer", "choices", "type", "answers", "dataset", "meta")
REQUIRED = ("id", "question", "answer")
_ARE_FIELDS = frozenset(FIELDS)
_ARE_TEXTS = frozenset(("id", "question", "answer", "type", "dataset"))
NUM_SHOWN = 20
MAX_REMEMBERED = 2**16
"""Texts of each sort that are remembered while a file is read, so that equal ones are in memory once."""
NEAR = 0.75
"""From this similarity on (`difflib`) a key is taken for a misspelt one where its line lacks something."""


@dataclass(frozen=True, slots=True)
class Record:
    """One usable line.

    Attributes:
        id: the sample's name.
        question: as written.
        answer: as written.
        choices: the options of a multiple-choice question, or None.
        type: the kind of question, for tables; empty when the line has none.
        sources: absolute path or paths by modality.
        line: line number in the data file, from 1.
        answers: answers that are right too.
        dataset: the data set it comes from; empty when the line has none.
    """

    id: str
    question: str
    answer: str
    sources: dict[str, Source]
    choices: tuple[str, ...] | None = None
    type: str = ""
    line: int = 0
    answers: tuple[str, ...] = ()
    dataset: str = ""

    @property
    def accepted(self) -> tuple[str, ...]:
        """Every answer that is right, the line's own first."""
        return (self.answer, *(text for text in self.answers if text != self.answer))

    def paths(self, name: str) -> tuple[str, ...]:
        """Return the files of one modality; empty when the sample lacks it."""
        source = self.sources.get(name, [])
        return (source,) if isinstance(source, str) else tuple(source)


@dataclass(frozen=True, slots=True)
class Problem:
    """A line that cannot be used, and why."""

    line: int
    text: str

    @property
    def sentence(self) -> str:
        """The text with its full stop."""
        return self.text if self.text.endswith("?") else f"{self.text}."


@dataclass(frozen=True)
class IgnoredKey:
    """A key that usable lines have and nothing reads."""

    name: str
    num_lines: int  # lines that have it
    line: int  # the first of them
    installed: bool  # whether it is the name of an installed modality, which was not asked for
    near: str  # the field or modality that has nearly its name; empty where none has, or it is installed

    def __str__(self) -> str:
        lines = f"line {self.line}" if self.num_lines == 1 else f"{self.num_lines:,} lines, first: line {self.line}"
        hint = f"; did you mean '{self.near}'?" if self.near else ""
        return f"'{self.name}' ({lines}{hint})"


@dataclass(frozen=True)
class Scan:
    """Everything a pass over a data file found."""

    records: list[Record]  # the usable lines, with the wanted modalities only
    problems: list[Problem]  # the unusable ones
    ignored: tuple[IgnoredKey, ...]  # keys of usable lines that are neither a field nor a wanted modality
    num_lines: int  # lines that are not blank


class Samples(NamedTuple):
    """What was read of some data, before anything is left out."""

    records: list[Record]  # every sample
    numbers: list[int]  # of each, its line; of samples that are no file its place, from 1
    unusable: list[Unusable]  # samples of which a file is missing, empty or of a kind its modality does not read
    name: str  # of the data in messages: the file's name; empty for samples that are no file
    folder: Path | None = None  # of the data file: paths below it are shown from there

    @property
    def usable(self) -> list[Record]:
        """The samples that are not unusable."""
        left_out = {own.line for own in self.unusable}
        return [record for number, record in zip(self.numbers, self.records, strict=True) if number not in left_out]

    def without(self, unreadable: Mapping[tuple[str, tuple[str, ...]], str]) -> Samples:
        """Return the same samples, of which those are unusable too that have an unreadable source.

        Args:
            unreadable: reasons by modality and files of a source.
        """
        known = {own.line: own for own in self.unusable}
        for number, record in zip(self.numbers, self.records, strict=True):
            for modality in record.sources if number not in known else ():
                paths = record.paths(modality)
                if (reason := unreadable.get((modality, paths))) is not None:
                    short = _shown_from(self.folder, paths[0])
                    known[number] = Unusable(self.name, number, record.id, modality, short, "unreadable", reason)
                    break
        return self._replace(unusable=[known[number] for number in sorted(known)])


def read_data_file(
    path: str | os.PathLike[str],
    *,
    modalities: Collection[str] | None = None,
    on_error: OnError = "stop",
    max_skipped: float = MAX_SKIPPED,
) -> list[Record]:
    """Read a data file.

    Args:
        path: the JSONL file.
        modalities: modalities wanted; files of others are neither looked for nor kept. None: every installed one.
        on_error: "skip" leaves out samples of which a file is missing, empty or of a kind its modality does not read,
            with one notice; "stop" raises where one is missing, and leaves the others to whoever reads them.
        max_skipped: the largest share of the samples that "skip" leaves out.

    Raises:
        DataFileError: naming every unusable line, or the samples with missing files.

    Example:
        >>> records = read_data_file("train.jsonl", modalities=["audio"])    # doctest: +SKIP
    """
    return as_records(path, modalities=modalities, on_error=on_error, max_skipped=max_skipped)


def as_records(
    data: Data,
    *,
    modalities: Collection[str] | None = None,
    on_error: OnError = "stop",
    max_skipped: float = MAX_SKIPPED,
) -> list[Record]:
    """Return the samples of a data file, or of records and mappings, which follow the same rules as lines.

    Args:
        data: the data file or the samples; a mapping has the keys of a line, and its paths are relative to the current
            folder.
        modalities, on_error, max_skipped: as in `read_data_file`.

    Raises:
        DataFileError: naming every sample that cannot be used, or that has a missing file; a record is taken as it is.

    Example:
        >>> as_records([{"id": 1, "question": "what ?", "answer": "red"}])[0].answer
        'red'
    """
    samples = read_samples(data, modalities=modalities)
    if on_error == "stop" and not any(own.why in ("missing", "blocked") for own in samples.unusable):
        return samples.records
    for line in settle([samples], on_error=on_error, max_skipped=max_skipped):
        logger.warning("%s", line)
    return samples.usable


def read_samples(
    data: Data,
    *,
    modalities: Collection[str] | None = None,
    specs: Mapping[str, ModalitySpec] | None = None,
    check_records: bool = False,
    tell_ignored: bool = True,
) -> Samples:
    """Read some data and look, without opening any file, which samples cannot be used; whoever calls decides.

    Args:
        data, modalities: as for `as_records`.
        specs: declarations of a model's modalities by name, which say what endings they read; None: those of installed
            packages.
        check_records: look at the files of records too, which are otherwise taken as they are.
        tell_ignored: warn of keys of a data file that are not read.

    Raises:
        DataFileError: naming every line or sample that is not one, or when there is none.
    """
    if not isinstance(data, str | os.PathLike):
        return _given_samples(data, modalities=modalities, specs=specs, check_records=check_records)
    path = Path(data)
    scan = scan_data_file(path, modalities=modalities)
    if scan.problems:
        raise DataFileError(_describe_problems(scan, f"lines of {path.name}", "line"))
    if not scan.records:
        raise DataFileError(
            f"{path.name} holds no samples. A data file has one JSON object per line, with at least "
            f"{_listed(REQUIRED)}. Write one line per question."
        )
    if tell_ignored:
        _report_ignored(path.name, scan.ignored, has_model=specs is not None)
    numbered = ((own.line, own) for own in scan.records)
    unusable = unusable_samples(numbered, name=path.name, folder=path.parent, specs=specs)
    return Samples(scan.records, [own.line for own in scan.records], unusable, path.name, path.parent)


def _given_samples(
    data: Sequence[Record | Mapping[str, object]],
    *,
    modalities: Collection[str] | None,
    specs: Mapping[str, ModalitySpec] | None,
    check_records: bool,
) -> Samples:
    given = {number: own for number, own in enumerate(data, start=1) if not isinstance(own, Record)}
    parsed = ((number, _plain(own)) for number, own in given.items())
    scan = _scan(parsed, modalities=modalities, folder=Path.cwd())
    if scan.problems:
        raise DataFileError(_describe_problems(scan, "records", "record"))
    _report_ignored("The data", scan.ignored, has_model=specs is not None)
    read = {record.line: record for record in scan.records}
    numbered = [(number, read.get(number, own)) for number, own in enumerate(data, start=1)]
    records = [(number, own) for number, own in numbered if isinstance(own, Record)]
    looked = [(number, own) for number, own in records if check_records or number in read]
    unusable = unusable_samples(looked, specs=specs)
    return Samples([own for _, own in records], [number for number, _ in records], unusable, "")


def unusable_samples(
    numbered: Iterable[tuple[int, Record]],
    *,
    name: str = "",
    folder: Path | None = None,
    specs: Mapping[str, ModalitySpec] | None = None,
) -> list[Unusable]:
    """Return the samples of which a file cannot be read, as far as its name and size say, each with its first one.

    Args:
        numbered: the samples with their lines or places.
        name: of the data file; empty for samples that are no file.
        folder: of the data file: paths below it are shown from there.
        specs: as in `read_samples`.
    """
    check = SourceCheck(specs)
    found = []
    for number, record in numbered:
        for modality in record.sources:
            faults = ((path, check.fault(modality, path)) for path in record.paths(modality))
            if first := next(((path, fault) for path, fault in faults if fault), None):
                path, fault = first
                found.append(Unusable(name, number, record.id, modality, _shown_from(folder, path), *fault))
                break
    return found


def _shown_from(folder: Path | None, source: str) -> str:
    """Return a source from the folder of its data file where it lies below it, else as it is."""
    base = None if folder is None else folder.absolute()
    return str(Path(source).relative_to(base)) if base is not None and Path(source).is_relative_to(base) else source


def read_pairs(data: Data, modalities: Sequence[str]) -> list[Record]:
    """Return the samples that have all of some modalities; what they are asked does not matter.

    Args:
        data: as for `as_records`, but `id`, `question` and `answer` may be absent.
        modalities: each of which a sample needs; samples without are left out, with a notice.

    Returns:
        Their `line` is their position in the list, from 0.

    Raises:
        DataFileError: as `as_records`, and when fewer than two samples are left.
    """
    if isinstance(data, str | os.PathLike):
        path = Path(data)
        lines = _lines(path)
        name, folder = path.name, path.parent.absolute()
    else:
        plain = [{"id": own.id, **own.sources} if isinstance(own, Record) else own for own in data]
        lines = ((number, _plain(own)) for number, own in enumerate(plain, start=1))
        name, folder = "The data", Path.cwd()
    unasked = {"question": "", "answer": "", "choices": None}
    parsed = (
        (number, values if isinstance(values, str) else {"id": number} | values | unasked) for number, values in lines
    )
    scan = _scan(parsed, modalities=modalities, folder=folder)
    if scan.problems:
        raise DataFileError(_describe_problems(scan, f"lines of {name}", "line"))
    _report_ignored(name, scan.ignored)
    found = [own for own in scan.records if all(own.paths(modality) for modality in modalities)]
    both = " and ".join(f"'{modality}'" for modality in modalities)
    if len(found) < 2:
        raise DataFileError(
            f"{name} has {len(found)} of {scan.num_lines:,} samples with both {both}. At least two are needed: each is "
            "told from the others. Write one line per recording, with the paths of both."
        )
    if (num_lacking := scan.num_lines - len(found)) > 0:
        logger.warning("%s: %s of %s samples lack %s, and are left out.", name, num_lacking, scan.num_lines, both)
    if unusable := unusable_samples((own.line, own) for own in found):
        first = unusable[0]
        raise DataFileError(
            f"{len(unusable):,} of {len(found):,} pairs cannot be used, first: {first.source} {first.reason} (line "
            f"{first.line}). Fix the paths, or leave those lines out."
        )
    return [replace(own, line=position) for position, own in enumerate(found)]


def moved_line(values: Mapping[str, object], there: Path, here: Path) -> dict[str, object]:
    """Return the values of a line of a data file in the folder `there` as a data file in the folder `here` has them.

    Relative paths start from the other folder. What may be a path and leads to no file may also be a text of its
    owner's, and is left as it is unless an installed modality reads it.
    """
    there, here = there.absolute(), here.absolute()
    installed = installed_names()

    def moved(key: str, value: object) -> object:
        if isinstance(value, list):
            return [moved(key, entry) for entry in value]
        if not isinstance(value, str) or Path(value).is_absolute() or there == here:
            return value
        if key not in installed and not (value and (there / file_of(value)).exists()):
            return value
        return os.path.relpath(there / value, here)

    return {key: value if key in FIELDS else moved(key, value) for key, value in values.items()}


def scan_data_file(path: Path, *, modalities: Collection[str] | None = None) -> Scan:
    """Read a data file and return the usable and the unusable lines; files are not looked for.

    Raises:
        DataFileError: when there is no such file, or it is not text.
    """
    return _scan(_lines(path), modalities=modalities, folder=path.parent.absolute())


def _scan(
    parsed: Iterable[tuple[int, dict[str, object] | str]], *, modalities: Collection[str] | None, folder: Path
) -> Scan:
    """Sort numbered lines, each its values or what is wrong with all of it, into usable and unusable ones."""
    known = frozenset(installed_names()) | frozenset(modalities or ())
    wanted = known if modalities is None else frozenset(modalities)
    records: list[Record] = []
    problems: list[Problem] = []
    ignored: dict[str, tuple[int, int]] = {}  # how many lines have a key, and the first of them
    compact = _Compact(wanted, folder)
    num_lines = 0
    for number, values in parsed:
        num_lines += 1
        faults = [values] if isinstance(values, str) else find_faults(values, wanted, known)
        if faults or isinstance(values, str):
            problems.extend(Problem(number, fault) for fault in faults)
            continue
        for name, value in values.items():
            if name not in _ARE_FIELDS and name not in wanted and value is not None:
                count, first = ignored.get(name, (0, number))
                ignored[name] = count + 1, first
        records.append(compact.record(values, line=number))
    names = [*FIELDS, *sorted(known)]
    keys = []
    for name, (count, first) in sorted(ignored.items()):
        near = [] if name in known else difflib.get_close_matches(name, names, n=1)
        keys.append(IgnoredKey(name, count, first, name in known, near[0] if near else ""))
    return Scan(records, problems, tuple(keys), num_lines)


def _report_ignored(name: str, ignored: Sequence[IgnoredKey], *, has_model: bool = False) -> None:
    """Say once what of a data file is not read."""
    if unused := [own for own in ignored if own.installed]:
        whose = "that this model does not have" if has_model else "that are not asked for"
        advice = " Name them in build(modalities=[...]) to use them." if has_model else ""
        listed = ", ".join(map(str, unused))
        logger.warning("%s has sources of modalities %s: %s. They are ignored.%s", name, whose, listed, advice)
    if unknown := [own for own in ignored if not own.installed]:
        logger.warning(
            "%s has keys that are neither a field nor an installed modality, and are ignored: %s. Install the package "
            "of a modality, correct a misspelt name, or put keys of your own into 'meta'.",
            name,
            ", ".join(map(str, unknown)),
        )


def _lines(path: Path) -> Iterator[tuple[int, dict[str, object] | str]]:
    """Yield the numbers of lines that are not blank, each with its values or what is wrong with all of it."""
    try:
        for number, text in enumerate(read_lines(path), start=1):
            if text.strip():
                yield number, _parsed(text)
    except ReadError as error:
        advice = "Save it as UTF-8." if "UTF" in error.reason else "Check the path."
        raise DataFileError(
            f"The data file {shown(path)} {error.reason}. A data file is JSONL, one object per line. {advice}"
        ) from error


def _parsed(text: str) -> dict[str, object] | str:
    """Return the values of a line, or what is wrong with all of it."""
    try:
        values = parse_json(text)
    except ReadError as error:
        return error.reason.removeprefix("is ")
    return values if isinstance(values, dict) else f"{type(values).__name__} instead of an object in braces"


def _plain(values: object) -> dict[str, object] | str:
    """Return a mapping as a line has it, paths as text, or what is wrong with all of it."""
    if not isinstance(values, Mapping):
        return f"{type(values).__name__} instead of a record or a mapping with the keys of a line"

    def plain(value: object) -> object:
        if isinstance(value, list | tuple):
            return [plain(entry) for entry in value]
        return os.fspath(value) if isinstance(value, os.PathLike) else value

    return {str(key): plain(value) for key, value in values.items()}


def find_faults(values: Mapping[str, object], wanted: frozenset[str], known: frozenset[str]) -> list[str]:
    """Return what is wrong with the values of one line.

    Args:
        values: by key.
        wanted: names of the modalities that are read; what else a line has may be anything.
        known: those and the installed ones.
    """
    other = [key for key, value in values.items() if key not in _ARE_FIELDS and key not in known and value is not None]
    faults = []
    for key in (key for key in REQUIRED if values.get(key) is None):
        near = difflib.get_close_matches(key, other, n=1, cutoff=NEAR)
        faults.append(f"no '{key}', but an unknown key '{near[0]}'. Did you mean '{key}'?" if near else f"no '{key}'")
    for key, value in values.items():
        if value is None or (key in _ARE_TEXTS and isinstance(value, str)):  # most, without a call for each
            continue
        if (key in _ARE_FIELDS or key in wanted) and (expected := _mistake(key, value)):
            faults.append(f"'{key}' is {_shown(value)}, not {expected}")
    if half := half_character(values):
        key = next((key for key, value in values.items() if half_character([key, value])), "")
        faults.append(
            f"{_shown(key)} holds {half}, one half of a character that was cut in two, which no file or tokenizer "
            "takes; write the whole character, or leave it out"
        )
    if other and not faults:
        faults += [f"unknown key '{key}'. Did you mean '{name}'?" for key, name in _misspelt(values, wanted, other)]
    choices = values.get("choices")
    if not faults and isinstance(choices, list) and values["answer"] not in choices:
        faults.append(f"the answer {values['answer']!r} is none of the choices")
    return faults


def _misspelt(values: Mapping[str, object], wanted: frozenset[str], other: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Yield unknown keys that hold what the line lacks, each with the name it nearly has."""
    lacking = [] if values.get("choices") is not None else ["choices"]
    if not any(values.get(name) is not None for name in wanted):
        lacking += sorted(wanted)
    for key in other:
        near = difflib.get_close_matches(key, lacking, n=1, cutoff=NEAR)
        value = values[key]
        if not near or _mistake(near[0], value):
            continue
        if near[0] != "choices" or (isinstance(value, list) and values["answer"] in value):
            yield key, near[0]


def _mistake(key: str, value: object) -> str:
    """Return what the value should have been, or nothing when it is right."""
    if key == "id":
        return "" if isinstance(value, str | int) and not isinstance(value, bool) else "a text or a whole number"
    if key in _ARE_TEXTS:
        return "" if isinstance(value, str) else "a text"
    texts = isinstance(value, list) and bool(value) and all(isinstance(entry, str) and entry for entry in value)
    if key == "meta":
        return "" if isinstance(value, dict) else "an object in braces"
    if key == "answers":
        return "" if texts else "a list of texts"
    if key == "choices":
        return "" if texts and isinstance(value, list) and len(value) > 1 else "a list of at least two texts"
    if "\0" in (str(value) if isinstance(value, str) else "".join(map(str, value)) if texts else ""):  # type: ignore[call-overload]
        return "a path, which has no NUL character"
    return "" if texts or (isinstance(value, str) and value) else "a path or a list of paths"


def _shown(value: object) -> str:
    text = json.dumps(value, default=repr)
    return text if len(text) <= 40 else text[:37] + "..."


class _Compact:
    """Makes records of lines; what many lines have in common is in memory once.

    Questions about one clip follow each other in most files, and most answers are given often: what was met lately is
    remembered, a bounded number of texts, so that a file in which nothing is repeated costs no table of all of it.

    Args:
        wanted: names of the modalities that are kept.
        folder: that relative paths start from.
    """

    def __init__(self, wanted: frozenset[str], folder: Path) -> None:
        self._wanted = {name: name for name in wanted}  # a record's keys are these objects, not those of its line
        self._folder = folder
        self._prefix = "" if os.name == "nt" else f"{str(folder).removesuffix('/')}/"
        self._texts: dict[str, str] = {"": ""}
        self._choices: dict[tuple[str, ...], tuple[str, ...]] = {(): ()}
        self._paths: dict[str, str] = {}

    def record(self, values: Mapping[str, object], *, line: int) -> Record:
        """Return the record of a usable line."""
        wanted = self._wanted
        choices, answers = values.get("choices"), values.get("answers")
        return Record(
            str(values["id"]),
            str(values["question"]),
            self._text(values["answer"]),
            {
                wanted[name]: [self._path(entry) for entry in value] if isinstance(value, list) else self._path(value)
                for name, value in values.items()
                if name in wanted and value is not None
            },
            self._tuple(choices) if isinstance(choices, list) else None,
            self._text(values.get("type") or ""),
            line,
            self._tuple(answers) if isinstance(answers, list) else (),
            self._text(values.get("dataset") or ""),
        )

    def _text(self, value: object) -> str:
        text = str(value)
        return _once(self._texts, text, text)

    def _tuple(self, values: list[str]) -> tuple[str, ...]:
        found = self._choices.get(own := tuple(values))
        return _once(self._choices, own, tuple(map(self._text, own))) if found is None else found

    def _path(self, value: object) -> str:
        source = str(value)
        found = self._paths.get(source)
        if found is None:
            # What needs no pathlib: a path below the folder that is as pathlib writes it.
            plain = self._prefix and not _UNUSUAL.search(source)
            found = _once(self._paths, source, self._prefix + source if plain else str(self._folder / source))
        return found


_UNUSUAL = re.compile(r"\A\.?(?:/|\Z)|//|/\./|/\.?\Z")
"""Paths that pathlib writes in another way than they are written, or that do not start from a folder."""


def _once(known: dict[Key, Value], key: Key, value: Value) -> Value:
    """Return what stands for a key already, else the value, which stands for it from now on."""
    if len(known) >= MAX_REMEMBERED:
        known.clear()
    return known.setdefault(key, value)


def _describe_problems(scan: Scan, what: str, one: str) -> str:
    num_bad = len({problem.line for problem in scan.problems})
    shown = [f"- {one} {problem.line}: {problem.text}" for problem in scan.problems[:NUM_SHOWN]]
    if len(scan.problems) > NUM_SHOWN:
        shown.append(f"- and {len(scan.problems) - NUM_SHOWN:,} more")
    modalities = ", ".join(sorted(installed_names())) or "none"
    return "\n".join(
        [
            f"{num_bad:,} of {scan.num_lines:,} {what} cannot be used:",
            *shown,
            f"Keys: {_listed(FIELDS)} ({_listed(REQUIRED)} are required) and a path for each modality; "
            f"installed modalities: {modalities}. Correct these {one}s.",
        ]
    )


def _listed(names: Sequence[str]) -> str:
    return f"{', '.join(names[:-1])} and {names[-1]}"
