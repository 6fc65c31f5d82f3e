"""Reading annotation files, so that whatever is not in the official layout is named with its file and entry."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from crema_core.common.reading import parse_json, read_text, require_file
from crema_core.errors import DatasetError, ReadError, first_line


class Entry(dict[str, Any]):
    """One annotation; an absent key is an error that states where.

    Args:
        values: its fields.
        where: file and number, for messages.
    """

    def __init__(self, values: dict[str, Any], where: str) -> None:
        super().__init__(values)
        self.where = where

    def __missing__(self, key: str) -> Any:
        has = ", ".join(str(own)[:40] for own in list(self)[:30])
        raise DatasetError(
            f"{self.where} has no '{key}'; it has: {has}. This is not the official layout. Download the file again "
            "from the official page."
        )

    def pick(self, key: str, index_key: str) -> Any:
        """Return the element of the list `key` whose index is written under `index_key`."""
        options, index = self[key], self[index_key]
        if not isinstance(options, list) or not str(index).isdigit() or int(index) >= len(options):
            raise self.wrong(index_key, f"not the index of one of its {key}")
        return options[int(index)]

    def wrong(self, key: str, what: str) -> DatasetError:
        """Return the error for a value of the wrong kind."""
        return DatasetError(
            f"{self.where}: '{key}' is {json.dumps(self[key])[:60]}, {what}. This is not the official layout. "
            "Download the file again from the official page."
        )


@dataclass(frozen=True)
class Place:
    """A data set's folder and the split to read.

    Attributes:
        root: the folder.
        split: one of the data set's splits.
    """

    root: Path
    split: str

    def json(self, path: str) -> Any:
        """Return the content of a JSON file.

        Raises:
            DatasetError: when it cannot be read or is not JSON.
        """
        return _parsed(self._text(path), path)

    def entries(self, path: str, *keys: str) -> Iterator[Entry]:
        """Yield the objects of a list in a JSON file.

        Args:
            path: the file.
            keys: where the list is inside the file.
        """
        content = self.json(path)
        for key in keys:
            content = Entry(_object(content, path), path)[key]
        if not isinstance(content, list):
            raise _not_official(path, f"{type(content).__name__} instead of a list")
        for number, values in enumerate(content, start=1):
            yield Entry(_object(values, f"entry {number} of {path}"), f"Entry {number} of {path}")

    def json_lines(self, path: str) -> Iterator[Entry]:
        """Yield the objects of a JSON Lines file.

        Raises:
            DatasetError: when it cannot be read or a line is no JSON object.
        """
        for number, text in enumerate(self._text(path).split("\n"), start=1):
            if text.strip():
                where = f"line {number} of {path}"
                yield Entry(_object(_parsed(text, where), where), f"Line {number} of {path}")

    def table(self, path: str, *names: str) -> Iterator[Entry]:
        """Yield the rows of a CSV file.

        Args:
            path: the file.
            names: names of its columns when its first line does not hold them.

        Raises:
            DatasetError: when it cannot be read or is not CSV.
        """
        # Not StringIO's own newlines: a cell may hold some.
        rows = csv.DictReader(io.StringIO(self._text(path), newline=""), names or None)
        try:
            for number, row in enumerate(rows, start=1 if names else 2):
                values = {key: value for key, value in row.items() if key is not None and value is not None}
                yield Entry(values, f"Line {number} of {path}")
        except csv.Error as error:
            raise _not_official(path, f"not CSV ({first_line(error)})") from error

    def parquet(self, path: str) -> Iterator[Entry]:
        """Yield the rows of a Parquet file.

        Raises:
            DatasetError: when pyarrow is not installed, or the file is not Parquet.
        """
        try:
            import pyarrow
            from pyarrow import parquet
        except ImportError as error:
            raise DatasetError(
                f"{path} is a Parquet file, which the package pyarrow reads. It is not installed. Run: pip "
                "install pyarrow"
            ) from error
        try:
            rows = parquet.read_table(require_file(self.root / path)).to_pylist()
        except (pyarrow.ArrowException, OSError, ValueError, OverflowError) as error:
            raise _not_official(path, "not a Parquet file") from error
        for number, values in enumerate(rows, start=1):
            yield Entry(_object(values, path), f"Row {number} of {path}")

    def _text(self, path: str) -> str:
        try:
            return read_text(self.root / path, most=None)
        except ReadError as error:
            raise _not_official(path, error.reason, verb="") from error


def _object(content: Any, where: str) -> dict[str, Any]:
    if not isinstance(content, dict):
        raise _not_official(where, f"{type(content).__name__} instead of an object")
    return content


def _parsed(text: str, where: str) -> Any:
    try:
        return parse_json(text)
    except ReadError as error:
        raise _not_official(where, error.reason, verb="") from error


def _not_official(where: str, what: str, *, verb: str = "is ") -> DatasetError:
    return DatasetError(
        f"{where[0].upper()}{where[1:]} {verb}{what}. This is not the official layout. Download the file again "
        "from the official page."
    )
