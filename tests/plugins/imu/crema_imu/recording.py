"""Reading CSV recordings."""

from __future__ import annotations

import csv
from pathlib import Path

import torch
from torch import Tensor

from crema_core.errors import MediaError

COLUMNS = ("t_s", "ax", "ay", "az", "gx", "gy", "gz")


def read_recording(path: Path) -> Tensor:
    """Read a recording.

    Returns:
        `(R, 7)` float32: time in seconds, acceleration in m/s², turning rate in rad/s.

    Raises:
        MediaError: when the file is absent, has other columns, holds text where numbers belong, or has too few rows.
    """
    if not path.is_file():
        raise MediaError(f"{path} does not exist. A recording is a CSV file. Correct the path in the data file.")
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.reader(file))
    if not rows or tuple(name.strip() for name in rows[0]) != COLUMNS:
        header = ",".join(rows[0]) if rows else "nothing"
        raise MediaError(
            f"{path} starts with '{header}'. Expected is the header '{','.join(COLUMNS)}'. Rename the columns."
        )
    try:
        recording = torch.tensor([[float(cell) for cell in row] for row in rows[1:]], dtype=torch.float32)
    except ValueError as error:
        raise MediaError(
            f"{path} holds a row that is not seven numbers ({error}). Export the recording again."
        ) from None
    if len(recording) < 2 or not bool((recording[1:, 0] > recording[:-1, 0]).all()):
        raise MediaError(f"{path} has fewer than two rows or times that do not ascend. Sort the rows by t_s.")
    return recording
