"""Answered questions on disk: written as they come, and taken up again after an interruption.

Beside `predictions.jsonl` lies `predictions.jsonl.run.json` with what the answers depend on; an evaluation that would
give other answers is not continued.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from contextlib import nullcontext, suppress
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from types import TracebackType
from typing import Any, TextIO

from crema_core.common.atomic import is_stream, write_text
from crema_core.common.reading import parse_json, read_object, read_text, shown
from crema_core.common.writing import writing
from crema_core.data.data_file import Record
from crema_core.data.sampling import file_of
from crema_core.errors import CheckpointError, ReadError, first_line
from crema_core.model.network import Outputs


@dataclass(frozen=True)
class Prediction:
    """One answered question."""

    id: str  # of the sample, as the next three
    type: str
    question: str
    answer: str
    prediction: str  # the generated text or the chosen option; of a tie "tie: " and the options
    correct: bool  # whether it is right; a tie is not
    modalities: tuple[str, ...]  # the modalities that took part
    num_tokens: int  # tokens given to the language model, question included
    clip: str = ""  # the sample's first source, for statistics over clips; the id where there is none
    dataset: str = ""  # of the sample; empty when it has none
    answers: tuple[str, ...] = ()  # every accepted answer, the sample's own first
    chosen: bool = False  # whether the answer was chosen among options
    tied: tuple[str, ...] = ()  # options with equal scores above all others; empty where the model chose
    # further outputs of the strategy, numbers by name of an output; a line of the file has each output that there is
    # under its own name
    extras: Outputs = field(default_factory=dict)

    @property
    def credit(self) -> float:
        """What it counts in an accuracy: 1 or 0; of a tie the chance that a draw among its options is right."""
        return (self.answer in self.tied) / len(self.tied) if self.tied else float(self.correct)


class PredictionFile:
    """A file of predictions, one JSON object per line.

    Args:
        path: the file; None: nothing is written.
        identity: what the answers depend on, plain JSON data.
        resume: keep what is there and continue; False: begin anew.

    Raises:
        CheckpointError: when there is something else to continue; nothing is changed.
    """

    def __init__(self, path: Path | None, identity: Mapping[str, Any], *, resume: bool = False) -> None:
        self.path = path
        self.done: list[Prediction] = []
        self._file: TextIO | None = None
        if path is None:
            return
        if is_stream(path):  # a pipe or device keeps nothing that could be continued
            return
        beside = path.with_name(path.name + ".run.json")
        # An empty file has nothing to continue: a process was killed before it wrote what its answers depend on.
        if resume and path.is_file() and path.stat().st_size > 0:
            _require_same(path, beside, identity)
            self.done = read_predictions(path)
        # What was cut off in the middle of a line goes; the rest is written back whole.
        write_text(path, "".join(_line(own) for own in self.done))
        write_text(beside, json.dumps(identity, indent=2) + "\n")

    def __enter__(self) -> PredictionFile:
        if self.path is not None:
            with writing(self.path):
                self._file = self.path.open(
                    "w" if is_stream(self.path) else "a", encoding="utf-8", errors="backslashreplace"
                )
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._file is not None:
            with suppress(OSError) if error else nullcontext():  # what could not be written is written again
                self._file.close()

    def add(self, prediction: Prediction) -> None:
        """Write one prediction."""
        if self._file is not None and self.path is not None:
            with writing(self.path):
                self._file.write(_line(prediction))
                self._file.flush()

    def left(self, records: Sequence[Record]) -> list[Record]:
        """Return the samples that are not answered yet; of equal ids as many are left as are missing."""
        answered = Counter(own.id for own in self.done)
        left = []
        for record in records:
            if answered[record.id] > 0:
                answered[record.id] -= 1
            else:
                left.append(record)
        return left


def digest(parts: Iterable[bytes]) -> str:
    """Return a short sha256 of several pieces."""
    found = hashlib.sha256()
    for part in parts:
        found.update(len(part).to_bytes(8, "big") + part)
    return found.hexdigest()[:16]


def records_digest(records: Sequence[Record]) -> str:
    """Return a digest of what is asked, of which sources, and of the accepted answers."""
    lines = ([r.id, r.question, r.accepted, r.choices, r.type, r.dataset, sorted(r.sources.items())] for r in records)
    return digest(json.dumps(line).encode() for line in lines)


def read_predictions(path: Path) -> list[Prediction]:
    """Read a file of predictions; a line cut off by an interruption is left out.

    Raises:
        CheckpointError: for a line that is no prediction.
    """
    names = {own.name for own in fields(Prediction)} - {"extras"}
    found = []
    *whole, _ = _text_of(path).split("\n")  # after the last line break stands nothing, or a torn line
    for number, text in enumerate(whole, start=1):
        try:
            line = parse_json(text)
            values: dict[str, Any] = {
                key: tuple(value) if isinstance(value, list) else value for key, value in line.items() if key in names
            }
            extras = {key: value for key, value in line.items() if key not in names and isinstance(value, dict)}
            found.append(Prediction(**values, extras=extras))
        except (ReadError, AttributeError, TypeError) as error:
            raise CheckpointError(
                f"Line {number} of '{path.name}' is no prediction. A line is a JSON object as this evaluation writes "
                "it. Correct or remove the line. Nothing was changed."
            ) from error
    return found


def _text_of(path: Path) -> str:
    try:
        return read_text(path, most=None)
    except ReadError as error:
        raise CheckpointError(
            f"The predictions {shown(path)} cannot be read: {first_line(error)}. Needed is the file that an evaluation "
            "wrote. Check the path, or evaluate anew. Nothing was changed."
        ) from error


def clip_of(record: Record) -> str:
    """Return what a question is about, for statistics over clips: its first file, or its id where there is none."""
    return next((file_of(record.paths(name)[0]) for name in record.sources if record.paths(name)), record.id)


def _require_same(path: Path, beside: Path, identity: Mapping[str, Any]) -> None:
    try:
        earlier = read_object(beside)
    except ReadError as error:
        raise CheckpointError(
            f"'{path.name}' cannot be continued: '{beside.name}', which states what its answers depend on, cannot be "
            "read. Name another file, or leave --resume out to begin anew. Nothing was changed."
        ) from error
    changed = [
        f"{key}: {json.dumps(earlier.get(key))} -> {json.dumps(value)}"
        for key, value in identity.items()
        if earlier.get(key) != json.loads(json.dumps(value))
    ]
    if changed:
        raise CheckpointError(
            f"'{path.name}' was written by another evaluation ({'; '.join(changed)}). Only the same one can be "
            "continued. Name another file, or leave --resume out to begin anew. Nothing was changed."
        )


def _line(prediction: Prediction) -> str:
    values = asdict(prediction)
    return json.dumps(values | values.pop("extras"), ensure_ascii=False) + "\n"
