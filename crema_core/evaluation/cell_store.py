"""Finished cells of a table of trainings: each kept in a file as soon as it is done, so that an interruption costs one.

```
OUT/
  table.json             what the cells depend on besides their row and seed
  cells/ROW.seed-N.json  one finished training and its evaluation
  runs/ROW.seed-N/       its run directory and model
```
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from crema_core.common.atomic import write_text
from crema_core.errors import CheckpointError
from crema_core.evaluation.cells import Measured, TableRow
from crema_core.evaluation.predictions import digest

IDENTITY = "table.json"


class CellStore:
    """Finished cells in a folder.

    Args:
        folder: new, or that of an interrupted table.
        identity: what every cell depends on, plain JSON data. Rows and seeds are not part of it, so both may grow.

    Raises:
        CheckpointError: when the folder holds the cells of something else; nothing is changed then.
    """

    def __init__(self, folder: Path, identity: Mapping[str, Any]) -> None:
        self.folder = folder
        wanted = json.loads(json.dumps(identity))
        if (folder / IDENTITY).is_file():
            self._require_same(wanted)
        elif folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise CheckpointError(
                f"'{folder}' exists and is not the folder of a table. Accepted: a new or empty folder, or that of a "
                "table to go on with. Name another one with --out. Nothing was changed."
            )
        else:
            write_text(folder / IDENTITY, json.dumps(wanted, indent=2) + "\n")

    def fill(
        self, labels: Iterable[str], seeds: Sequence[int], make: Callable[[str, int, Path], Measured]
    ) -> tuple[TableRow, ...]:
        """Return the rows, making what is not there yet; one seed for all rows comes before the next seed.

        Args:
            labels: of the rows, all different.
            seeds: of every row.
            make: from label, seed and a folder of its own to a measured cell.
        """
        names = list(labels)
        found: dict[str, dict[int, Measured]] = {label: {} for label in names}
        for seed in seeds:
            for label in names:
                done = self.read(label, seed)
                if done is None:
                    done = make(label, seed, self.run_folder(label, seed))
                    self.keep(label, seed, done)
                found[label][seed] = done
        return tuple(TableRow(label, cells) for label, cells in found.items())

    def keep(self, label: str, seed: int, done: Measured) -> None:
        """Write a finished cell."""
        write_text(self._place(label, seed), json.dumps(asdict(done), indent=2) + "\n")

    def read(self, label: str, seed: int) -> Measured | None:
        """Return a finished cell, or None.

        Raises:
            CheckpointError: when its file is not what was written.
        """
        place = self._place(label, seed)
        if not place.is_file():
            return None
        try:
            return Measured(**json.loads(place.read_text(encoding="utf-8")))
        except (json.JSONDecodeError, TypeError) as error:
            raise CheckpointError(
                f"'{place}' is no finished cell. It is written whole, as JSON. Remove the file, and the cell is made "
                "again. Nothing was changed."
            ) from error

    def run_folder(self, label: str, seed: int) -> Path:
        """Return the run directory of a cell."""
        return self.folder / "runs" / self.name(label, seed)

    def name(self, label: str, seed: int) -> str:
        """Return the name of a cell's files; labels that differ have names that differ."""
        plain = re.sub(r"[^A-Za-z0-9_.-]+", "_", label)
        safe = plain if plain == label else f"{plain[:80]}-{digest([label.encode()])[:6]}"
        return f"{safe}.seed-{seed}"

    def _place(self, label: str, seed: int) -> Path:
        return self.folder / "cells" / f"{self.name(label, seed)}.json"

    def _require_same(self, wanted: Mapping[str, Any]) -> None:
        try:
            earlier = json.loads((self.folder / IDENTITY).read_text(encoding="utf-8"))
        except json.JSONDecodeError as error:
            raise CheckpointError(
                f"'{self.folder}' cannot be gone on with: its {IDENTITY}, which says what the cells depend on, is not "
                "JSON. Name another folder with --out. Nothing was changed."
            ) from error
        changed = [
            f"{key}: {json.dumps(earlier.get(key))} -> {json.dumps(wanted.get(key))}"
            for key in dict.fromkeys([*earlier, *wanted])
            if earlier.get(key) != wanted.get(key)
        ]
        if changed:
            raise CheckpointError(
                f"'{self.folder}' holds cells of another table ({'; '.join(changed)}). Only the same one can be gone "
                "on with; rows and seeds may be added. Name another folder with --out. Nothing was changed."
            )
