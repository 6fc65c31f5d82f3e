"""`metrics.jsonl`: one flat JSON object of numbers per line, written as training goes.

Kinds of lines (`kind`): `step`, `epoch`, `valid`, `exit`. Values are plain numbers and texts, never tensors, so nothing
keeps a graph alive.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path

Value = float | int | str


class MetricsFile:
    """Appends to a metrics file.

    Args:
        path: the file; it is created by the first line.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def write(self, kind: str, values: Mapping[str, Value]) -> None:
        """Append one line, as soon as it is known.

        Args:
            kind: what the line is about.
            values: numbers and texts; names of senses go into the keys: `loss/audio`.
        """
        for key, value in values.items():
            assert isinstance(value, float | int | str), f"{key} is {type(value).__name__}, not a number or a text"
        line = {"kind": kind} | {key: _finite(value) for key, value in values.items()}
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")

    @property
    def num_bytes(self) -> int:
        """Size of the file; a checkpoint records it."""
        return self.path.stat().st_size if self.path.exists() else 0

    def truncate(self, num_bytes: int) -> None:
        """Drop what was written after a checkpoint: those updates will be trained, and written, again."""
        if self.num_bytes > num_bytes:
            with self.path.open("r+b") as file:
                file.truncate(num_bytes)


def read_metrics(path: Path) -> list[dict[str, Value]]:
    """Return the lines of a metrics file; a last line cut off by a crash is left out."""
    if not path.exists():
        return []
    *lines, rest = path.read_text(encoding="utf-8").split("\n")
    del rest  # empty after a whole last line
    return [json.loads(line) for line in lines if line]


def _finite(value: Value) -> Value:
    # JSON has no infinity and no NaN; a reader in another language must not stumble over them.
    return value if not isinstance(value, float) or math.isfinite(value) else str(value)
