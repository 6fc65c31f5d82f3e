"""The data file: one JSON object per line, one key per modality.

    {"id": "17", "question": "What is playing?", "answer": "a drum", "type": "sound", "audio": "clips/17.wav"}

`id`, `question` and `answer` are required; `choices`, `type`, `answers` (others that are right too) and `dataset` (a
name of `crema data list`, which decides how answers are scored) are optional. Every other key is the name of an
installed modality with the path of its file (or a list of paths), relative to the data file; `a.mp4#t=1,2` is a part of
a file. A missing key, or null, is a missing modality. Every unusable line is reported at once.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from crema_core.data.sampling import file_of
from crema_core.errors import DataFileError, did_you_mean
from crema_core.plugins.registry import installed_names

logger = logging.getLogger(__name__)

Source = str | list[str]
FIELDS = ("id", "question", "answer", "choices", "type", "answers", "dataset")
REQUIRED = ("id", "question", "answer")
NUM_SHOWN = 20


@dataclass(frozen=True)
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


@dataclass(frozen=True)
class Problem:
    """A line that cannot be used, and why."""

    line: int
    text: str

    @property
    def sentence(self) -> str:
        """The text with its full stop."""
        return self.text if self.text.endswith("?") else f"{self.text}."


@dataclass(frozen=True)
class Scan:
    """Everything a pass over a data file found."""

    records: list[Record]  # the usable lines, with the wanted modalities only
    problems: list[Problem]  # the unusable ones
    unused: tuple[str, ...]  # modalities that lines have and the caller did not want
    num_lines: int  # lines that are not blank


def read_data_file(
    path: str | os.PathLike[str],
    *,
    modalities: Collection[str] | None = None,
    missing: Literal["error", "skip"] = "error",
) -> list[Record]:
    """Read a data file.

    Args:
        path: the JSONL file.
        modalities: modalities wanted; files of others are neither looked for nor kept. None: every installed one.
        missing: "skip" leaves out samples of which a file does not exist, with one notice.

    Raises:
        DataFileError: naming every unusable line, or the samples with missing files.

    Example:
        >>> records = read_data_file("train.jsonl", modalities=["audio"])    # doctest: +SKIP
    """
    path = Path(path)
    scan = scan_data_file(path, modalities=modalities)
    if scan.problems:
        raise DataFileError(_describe_problems(path, scan))
    if not scan.records:
        raise DataFileError(
            f"{path.name} holds no samples. A data file has one JSON object per line, with at least "
            f"{_listed(REQUIRED)}. Write one line per question."
        )
    if scan.unused:
        logger.warning(
            "%s has sources of modalities that this model does not have: %s. They are ignored. "
            "Name them in build(modalities=[...]) to use them.",
            path.name,
            ", ".join(scan.unused),
        )
    absent = missing_files(scan.records)
    if not absent:
        return scan.records
    summary = describe_missing(path, absent, num_samples=len(scan.records))
    if missing == "error":
        raise DataFileError(f'{summary} Fix the paths, or pass missing="skip" to leave those samples out.')
    left = {record.line for record, _ in absent}
    records = [record for record in scan.records if record.line not in left]
    if not records:
        raise DataFileError(f"{summary} No sample is left. Fix the paths.")
    logger.warning("%s They are left out.", summary)
    return records


def scan_data_file(path: Path, *, modalities: Collection[str] | None = None) -> Scan:
    """Read a data file and return the usable and the unusable lines; files are not looked for.

    Raises:
        DataFileError: when there is no such file, or it is not text.
    """
    known = frozenset(installed_names()) | frozenset(modalities or ())
    wanted = known if modalities is None else frozenset(modalities)
    records: list[Record] = []
    problems: list[Problem] = []
    unused: set[str] = set()
    num_lines = 0
    for number, text in enumerate(_lines(path), start=1):
        if not text.strip():
            continue
        num_lines += 1
        values, faults = parse_line(text, known)
        if faults:
            problems.extend(Problem(number, fault) for fault in faults)
            continue
        sources = {name: value for name, value in values.items() if name not in FIELDS and value is not None}
        unused |= sources.keys() - wanted
        records.append(_record(values, sources, wanted=wanted, folder=path.parent.absolute(), line=number))
    return Scan(records, problems, tuple(sorted(unused)), num_lines)


def missing_files(records: Iterable[Record]) -> list[tuple[Record, str]]:
    """Return the samples of which a file does not exist, each with its first such path; every path is tried once."""
    exists: dict[str, bool] = {}
    found = []
    for record in records:
        for path in (path for name in record.sources for path in record.paths(name)):
            if path not in exists:
                exists[path] = Path(file_of(path)).exists() or Path(path).exists()
            if not exists[path]:
                found.append((record, path))
                break
    return found


def describe_missing(data_file: Path, absent: Sequence[tuple[Record, str]], *, num_samples: int) -> str:
    """Return a sentence: "3 of 1,204 samples have a missing file, first: clips/7.mp4 (line 311 of train.jsonl)."."""
    record, first = absent[0]
    folder = data_file.parent.absolute()
    shown = Path(first).relative_to(folder) if Path(first).is_relative_to(folder) else first
    verb = "has" if len(absent) == 1 else "have"
    return (
        f"{len(absent):,} of {num_samples:,} samples {verb} a missing file, first: {shown} "
        f"(line {record.line} of {data_file.name})."
    )


def _lines(path: Path) -> list[str]:
    if not path.is_file():
        what = "is a folder" if path.is_dir() else "does not exist"
        raise DataFileError(
            f"The data file '{path}' {what}. A data file is JSONL, one object per line. Check the path."
        )
    try:
        return path.read_text(encoding="utf-8-sig").split("\n")
    except UnicodeDecodeError as error:
        raise DataFileError(
            f"The data file '{path}' is not UTF-8 text (byte {error.start}). A data file is JSONL, one object per "
            "line. Save it as UTF-8."
        ) from error


def parse_line(text: str, known: frozenset[str]) -> tuple[dict[str, object], list[str]]:
    """Return the values of one line and what is wrong with it; `known` are the names of modalities."""
    try:
        values = json.loads(text)
    except json.JSONDecodeError as error:
        return {}, [f"not JSON ({error.msg} at column {error.colno})"]
    if not isinstance(values, dict):
        return {}, [f"{type(values).__name__} instead of an object in braces"]
    faults = [f"no '{key}'" for key in REQUIRED if values.get(key) is None]
    for key, value in values.items():
        if key not in FIELDS and key not in known:
            faults.append(f"unknown key '{key}'.{did_you_mean(key, [*FIELDS, *sorted(known)])}".removesuffix("."))
        elif value is not None and (expected := _mistake(key, value)):
            faults.append(f"'{key}' is {_shown(value)}, not {expected}")
    if not faults and values.get("choices") is not None and values["answer"] not in values["choices"]:
        faults.append(f"the answer {values['answer']!r} is none of the choices")
    return values, faults


def _mistake(key: str, value: object) -> str:
    """Return what the value should have been, or nothing when it is right."""
    if key == "id":
        return "" if isinstance(value, str | int) and not isinstance(value, bool) else "a text or a whole number"
    if key in ("question", "answer", "type", "dataset"):
        return "" if isinstance(value, str) else "a text"
    texts = isinstance(value, list) and bool(value) and all(isinstance(entry, str) and entry for entry in value)
    if key == "answers":
        return "" if texts else "a list of texts"
    if key == "choices":
        return "" if texts and isinstance(value, list) and len(value) > 1 else "a list of at least two texts"
    return "" if texts or (isinstance(value, str) and value) else "a path or a list of paths"


def _shown(value: object) -> str:
    text = json.dumps(value)
    return text if len(text) <= 40 else text[:37] + "..."


def _record(
    values: dict[str, object], sources: dict[str, object], *, wanted: frozenset[str], folder: Path, line: int
) -> Record:
    choices, answers = values.get("choices"), values.get("answers")
    return Record(
        id=str(values["id"]),
        question=str(values["question"]),
        answer=str(values["answer"]),
        sources={
            name: [str(folder / entry) for entry in value] if isinstance(value, list) else str(folder / str(value))
            for name, value in sources.items()
            if name in wanted
        },
        choices=tuple(choices) if isinstance(choices, list) else None,
        type=str(values.get("type") or ""),
        line=line,
        answers=tuple(answers) if isinstance(answers, list) else (),
        dataset=str(values.get("dataset") or ""),
    )


def _describe_problems(path: Path, scan: Scan) -> str:
    num_bad = len({problem.line for problem in scan.problems})
    shown = [f"- line {problem.line}: {problem.text}" for problem in scan.problems[:NUM_SHOWN]]
    if len(scan.problems) > NUM_SHOWN:
        shown.append(f"- and {len(scan.problems) - NUM_SHOWN:,} more")
    modalities = ", ".join(sorted(installed_names())) or "none"
    return "\n".join(
        [
            f"{num_bad:,} of {scan.num_lines:,} lines of {path.name} cannot be used:",
            *shown,
            f"Keys: {_listed(FIELDS)} ({_listed(REQUIRED)} are required) and a path for each modality; "
            f"installed modalities: {modalities}. Correct these lines.",
        ]
    )


def _listed(names: Sequence[str]) -> str:
    return f"{', '.join(names[:-1])} and {names[-1]}"
