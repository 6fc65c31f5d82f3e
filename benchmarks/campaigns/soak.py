"""One process that answers and evaluates for an hour: do its memory, open files and threads stay as they are?

`answer` and `evaluate` take turns on crema-tiny and a few clips. After every round resident memory, open descriptors
and threads are sampled. The first `WARM_UP` of the time is a warm-up: allocators, caches and pools reach their size.
The next `LEARN` of it sets the bounds: the greatest value seen, and for memory on top `MARGIN` times the spread seen
beside a steady growth, `LEAST_MB` at least. Afterwards nothing may grow beyond: the median of the last fifth is
compared, so that one sample at a busy moment is no leak, and a leak of any constant rate is found when the run is long
enough. The slope of memory over all but the warm-up is printed too.

    python -m benchmarks.campaigns.soak [--minutes 60 --seed 0 --folder DIR]

Prints a table and one line of JSON, and returns 3 when anything grew.
"""

from __future__ import annotations

import argparse
import gc
import json
import logging
import random
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import psutil
import torch

import crema_core
from crema_core.common.atomic import write_text
from crema_core.common.tables import table
from crema_world.generate import make_world

WARM_UP, LEARN, LAST = 0.2, 0.3, 0.2
"""Shares of the time."""
MARGIN = 2.0
LEAST_MB = 8.0
NUM_QUESTIONS = 6


class Sampled(NamedTuple):
    """What a process uses at a moment."""

    second: float
    memory_mb: float
    descriptors: int
    threads: int


class Verdict(NamedTuple):
    """How one of them went on."""

    first: float
    bound: float
    last: float

    @property
    def grew(self) -> bool:
        """Whether it is beyond its bound."""
        return self.last > self.bound


def sample(started: float) -> Sampled:
    """Return what this process uses now."""
    gc.collect()
    process = psutil.Process()
    memory_mb = process.memory_info().rss / 1e6
    return Sampled(time.monotonic() - started, memory_mb, process.num_fds(), threading.active_count())


def judge(samples: Sequence[Sampled]) -> dict[str, Verdict]:
    """Compare the last samples with bounds that the first ones set.

    >>> flat = [Sampled(second, 100.0, 9, 2) for second in range(100)]
    >>> any(own.grew for own in judge(flat).values())
    False
    """
    end = samples[-1].second
    learned = [own for own in samples if WARM_UP * end <= own.second <= (WARM_UP + LEARN) * end]
    last = [own for own in samples if own.second >= (1 - LAST) * end]
    found = {}
    for name in ("memory_mb", "descriptors", "threads"):
        values = [float(getattr(own, name)) for own in learned]
        room = max(MARGIN * _noise([own.second for own in learned], values), LEAST_MB) if name == "memory_mb" else 0.0
        median = statistics.median(float(getattr(own, name)) for own in last)
        found[name] = Verdict(statistics.median(values), max(values) + room, median)
    return found


def _noise(seconds: Sequence[float], values: Sequence[float]) -> float:
    """Return how far values lie apart beside a steady growth, which is no noise."""
    if len(set(seconds)) < 2:
        return 0.0
    slope, start = statistics.linear_regression(seconds, values)
    rest = [value - start - slope * second for second, value in zip(seconds, values, strict=True)]
    return max(rest) - min(rest)


def slope_mb_per_hour(samples: Sequence[Sampled]) -> float:
    """Return how fast memory grows after the warm-up, by least squares."""
    left = [own for own in samples if own.second >= WARM_UP * samples[-1].second]
    if len({own.second for own in left}) < 2:
        return 0.0
    slope, _ = statistics.linear_regression([own.second for own in left], [own.memory_mb for own in left])
    return slope * 3600


def turns(folder: Path, seed: int) -> list[Callable[[], object]]:
    """Return what takes turns: questions to one clip, evaluations, and those that keep answers and features."""
    world = make_world(folder / "world", num_clips=2, seed=seed, split="train")
    lines = [json.loads(line) for line in world.data_file.read_text(encoding="utf-8").splitlines()]
    few = folder / "world" / "few.jsonl"
    write_text(few, "".join(json.dumps(line) + "\n" for line in lines[:NUM_QUESTIONS]))
    model = crema_core.build(["video", "audio"], backbone="crema-tiny")
    draw = random.Random(seed)

    def answer() -> object:
        line = draw.choice(lines)
        files = {name: str(few.parent / line[name]) for name in ("video", "audio")}
        return model.answer(line["question"], **files).text

    def evaluate() -> object:
        return crema_core.evaluate(model, few, batch_size=2, announce=False).accuracy

    def evaluate_kept() -> object:
        out = folder / "answers.jsonl"
        return crema_core.evaluate(
            model, few, batch_size=2, announce=False, out=out, cache=folder / "features"
        ).accuracy

    return [answer, answer, evaluate, answer, answer, evaluate_kept]


def soak(folder: Path, *, minutes: float, seed: int) -> tuple[list[Sampled], int]:
    """Work for some minutes; return the samples, and how many turns were taken."""
    logging.disable(logging.WARNING)
    work = turns(folder, seed)
    samples, done, started = [], 0, time.monotonic()
    try:
        while time.monotonic() - started < minutes * 60 or done < 3 * len(work):
            for turn in work:
                turn()
                done += 1
            samples.append(sample(started))
    finally:
        logging.disable(logging.NOTSET)
    return samples, done


def main(arguments: Sequence[str] | None = None) -> int:
    """Work, print, and return 3 when anything grew."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--folder", type=Path, help="where data and answers are kept; new")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory(prefix="soak-") as own:
        samples, done = soak(options.folder or Path(own), minutes=options.minutes, seed=options.seed)
    verdicts = judge(samples)
    rows = [["", "at first", "bound", "at last", ""]]
    for name, own in verdicts.items():
        grew = "GREW" if own.grew else "flat"
        rows.append([name.replace("_", " "), f"{own.first:.1f}", f"{own.bound:.1f}", f"{own.last:.1f}", grew])
    slope = slope_mb_per_hour(samples)
    print(table(rows))
    print(f"{done:,} turns in {samples[-1].second:.0f} s, memory grows by {slope:+.1f} MB an hour after the warm-up")
    facts = {name: {**own._asdict(), "grew": own.grew} for name, own in verdicts.items()}
    print(json.dumps({"soak": facts, "turns": done, "seconds": samples[-1].second, "mb_per_hour": slope}))
    return 3 if any(own.grew for own in verdicts.values()) else 0


if __name__ == "__main__":
    sys.exit(main())
