"""Reading recordings: CSV files, arrays and tensors."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from crema_core.errors import MediaError

COLUMNS = ("t_s", "ax", "ay", "az", "gx", "gy", "gz")


def as_recording(source: object) -> Tensor:
    """Return a recording `(R, 7)`: time in seconds, acceleration in m/s², turning rate in rad/s.

    Raises:
        MediaError: when the source is neither a CSV file nor an array of this layout.
    """
    if isinstance(source, str | Path):
        return read_recording(Path(source))
    if not isinstance(source, np.ndarray | Tensor) or source.ndim != 2 or source.shape[1] != len(COLUMNS):
        raise MediaError(
            f"A recording came as {type(source).__name__} {getattr(source, 'shape', '')}. Accepted: a CSV file, or an "
            "array (rows, 7). Pass one of these."
        )
    return _checked(torch.as_tensor(source).float(), "The array")


def read_recording(path: Path) -> Tensor:
    """Read a CSV file into `(R, 7)` float32.

    Raises:
        MediaError: when the file is absent, has other columns, holds text where numbers belong, or has too few rows.
    """
    if not path.is_file():
        raise MediaError(f"{path} does not exist. A recording is a CSV file. Correct the path in the data file.")
    with path.open(encoding="utf-8", errors="replace", newline="") as file:
        rows = list(csv.reader(file))
    if not rows or tuple(name.strip() for name in rows[0]) != COLUMNS:
        header = ",".join(rows[0]) if rows else "nothing"
        raise MediaError(
            f"{path} starts with '{header}'. Expected is the header '{','.join(COLUMNS)}'. Rename the columns."
        )
    try:
        values = torch.tensor([[float(cell) for cell in row] for row in rows[1:]], dtype=torch.float32)
    except ValueError:
        values = torch.empty(0)
    return _checked(values.reshape(-1, len(COLUMNS)) if len(rows) == 1 else values, str(path))


def _checked(recording: Tensor, where: str) -> Tensor:
    if recording.dim() != 2 or recording.shape[1] != len(COLUMNS) or not bool(recording.isfinite().all()):
        raise MediaError(f"{where} holds a row that is not seven finite numbers. Export the recording again.")
    if len(recording) < 2 or not bool((recording[1:, 0] > recording[:-1, 0]).all()):
        raise MediaError(f"{where} has fewer than two rows or times that do not ascend. Sort the rows by t_s.")
    return recording
