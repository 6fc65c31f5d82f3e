"""Questions about a clip that says nothing, whose answers only another modality tells."""

from __future__ import annotations

import json
from collections.abc import Collection
from pathlib import Path

import numpy as np
import torch
from PIL import Image

CHOICES = ["red", "blue"]


def write_wave_questions(
    folder: Path, *, side: int, without_video: Collection[int] = (), points: Collection[int] = ()
) -> Path:
    """Write six questions and return their data file.

    Args:
        folder: where, made if absent.
        side: of the picture all of them show.
        without_video: rows that have no picture.
        points: rows that have points.
    """
    folder.mkdir(parents=True, exist_ok=True)
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 256, (side, side, 3), generator=generator, dtype=torch.uint8)
    Image.fromarray(pixels.numpy()).save(folder / "same.png")
    lines = []
    for row in range(6):
        np.save(folder / f"wave{row}.npy", np.full((5, 3, 10), 1.0 - 2 * (row % 2), dtype=np.float32))
        np.save(folder / f"points{row}.npy", torch.randn(4, 6, generator=generator).numpy())
        line = {"id": str(row), "question": "what colour ?", "choices": CHOICES, "answer": CHOICES[row % 2]}
        line |= {"wave": f"wave{row}.npy", **({} if row in without_video else {"video": "same.png"})}
        lines.append(line | ({"points": f"points{row}.npy"} if row in points else {}))
    (folder / "data.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return folder / "data.jsonl"
