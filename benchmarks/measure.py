"""Timing and printing that every benchmark shares.

CPU seconds of one thread are compared, not wall time: they hardly change when other programs run.
"""

from __future__ import annotations

import json
import resource
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch


def alternate(tasks: Mapping[str, Callable[[], object]], *, repeats: int) -> dict[str, list[float]]:
    """Return CPU seconds of each task, `repeats` times, the tasks taking turns after one unmeasured round.

    Turns mean that whatever slows the machine for a while slows all tasks.
    """
    seconds: dict[str, list[float]] = {name: [] for name in tasks}
    for turn in range(repeats + 1):
        for name, task in tasks.items():
            start = time.process_time()
            task()
            if turn:
                seconds[name].append(time.process_time() - start)
    return seconds


def ratio(seconds: Mapping[str, Sequence[float]], slow: str, fast: str) -> float:
    """Return the median over turns of how many times longer `slow` took than `fast`."""
    return statistics.median(a / b for a, b in zip(seconds[slow], seconds[fast], strict=True))


def median(seconds: Sequence[float]) -> float:
    """Return the median, to milliseconds."""
    return round(statistics.median(seconds), 3)


def peak_megabytes() -> float:
    """Return the largest resident memory of this process so far, in 10^6 bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6


def report(benchmark: str, rows: Sequence[Mapping[str, Any]], **facts: Any) -> None:
    """Print rows as a table, and all as one line of JSON."""
    columns = list(dict.fromkeys(key for row in rows for key in row))
    cells = [columns, *([str(row.get(column, "")) for column in columns] for row in rows)]
    widths = [max(len(line[index]) for line in cells) for index in range(len(columns))]
    for line in cells:
        print("  ".join(cell.rjust(width) for cell, width in zip(line, widths, strict=True)))
    print(json.dumps({"benchmark": benchmark, "torch": torch.__version__, **facts, "rows": list(rows)}), flush=True)
