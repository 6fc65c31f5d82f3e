"""Synthetic recordings of a person who steps to the left or to the right, with a question each."""

from __future__ import annotations

import csv
import json
import math
import random
from pathlib import Path

from crema_imu.recording import COLUMNS

QUESTION = "which way does the person move?"
CHOICES = ("left", "right")


def write_clips(folder: str | Path, *, count: int, seed: int) -> Path:
    """Write `count` recordings and a data file of them.

    Returns:
        path of the data file.
    """
    generator = random.Random(seed)
    place = Path(folder)
    place.mkdir(parents=True, exist_ok=True)
    lines = []
    for index in range(count):
        answer = CHOICES[index % 2]
        with (place / f"{index:04}.csv").open("w", encoding="utf-8", newline="") as file:
            csv.writer(file).writerows([COLUMNS, *_recording(answer, generator)])
        lines.append(
            {"id": f"{index:04}", "question": QUESTION, "answer": answer, "choices": CHOICES, "imu": f"{index:04}.csv"}
        )
    data_file = place / "data.jsonl"
    data_file.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    return data_file


def _recording(answer: str, generator: random.Random) -> list[list[float]]:
    """Two seconds at 50 Hz: a push to one side, the body leaning the same way, walking in the vertical axis, noise."""
    side = 1.0 if answer == "left" else -1.0
    strength, pace, phase = generator.uniform(1, 3), generator.uniform(1.5, 2.5), generator.uniform(0, 6.3)
    rows = []
    for index in range(100):
        time = index / 50
        push = side * strength * math.sin(math.pi * time / 2)
        noise = [generator.gauss(0, 0.2) for _ in range(6)]
        clean = [0.0, push, 9.81 + math.sin(2 * math.pi * pace * time + phase), 0.3 * push, 0.0, 0.1 * push]
        rows.append([round(time, 3), *(round(value + error, 4) for value, error in zip(clean, noise, strict=True))])
    return rows
