"""Several questions about each clip: what an evaluation costs without a cache, and with one.

A SenseWorld data set asks nine questions about every clip; here they are sorted by their types, so that those about one
clip lie far apart. Compared in turns are an evaluation without a cache, one that fills a new cache, and one that finds
everything in it; each once more in a process of its own, for its peak memory. The answers must be equal.

    python -m benchmarks.questions --clips 100 --repeats 5
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from itertools import count
from pathlib import Path

import torch

import crema_core
from benchmarks.measure import alternate, median, peak_megabytes, ratio, report
from crema_core.api.model import CremaModel
from crema_core.data.data_file import Record, read_data_file
from crema_core.evaluation.predictions import read_predictions
from crema_core.evaluation.run import evaluate
from crema_world.generate import make_world

MODALITIES = ("video", "audio", "depth", "touch")
WAYS = ("no cache", "new cache", "full cache")


def far_apart(records: list[Record]) -> list[Record]:
    """Return the questions sorted by type."""
    return sorted(records, key=lambda record: record.type)


def answers_of(model: CremaModel, records: list[Record], cache: Path | None, out: Path) -> list[str]:
    """Answer every question; return the answers in the order of the questions' names."""
    evaluate(model, records, cache=cache, announce=False, out=out)
    return sorted(f"{own.id} {own.prediction}" for own in read_predictions(out))


def compare(place: Path, *, clips: int, repeats: int) -> list[dict[str, object]]:
    """Return a row for each way."""
    make_world(place / "world", num_clips=clips, seed=0, split="test")
    model = crema_core.build(list(MODALITIES), backbone="crema-tiny")
    records = far_apart(read_data_file(place / "world" / "data.jsonl", modalities=model.names))
    number = count()
    found: dict[str, list[str]] = {}

    def run(way: str) -> None:
        cache = {"no cache": None, "new cache": place / f"new-{next(number)}", "full cache": place / "full"}[way]
        found[way] = answers_of(model, records, cache, place / f"answers-{next(number)}.jsonl")

    run("full cache")  # fills it
    seconds = alternate({way: lambda way=way: run(way) for way in WAYS}, repeats=repeats)  # type: ignore[misc]
    if any(own != found["no cache"] for own in found.values()):
        raise AssertionError("the ways answered differently")
    return [
        {
            "way": way,
            "questions": len(records),
            "s": median(seconds[way]),
            "min_s": round(min(seconds[way]), 3),
            "max_s": round(max(seconds[way]), 3),
            "of_new_cache": round(ratio(seconds, way, "new cache"), 2),
            "peak_mb": round(_peak(place, way)),
        }
        for way in WAYS
    ]


def _peak(place: Path, way: str) -> float:
    words = [sys.executable, "-W", "ignore", "-m", "benchmarks.questions", "--peak", str(place), way]
    return float(subprocess.run(words, check=True, capture_output=True, text=True).stdout.split()[-1])


def print_peak(place: Path, way: str) -> None:
    """Evaluate once and print this process's peak memory in 10^6 bytes."""
    model = crema_core.build(list(MODALITIES), backbone="crema-tiny")
    records = far_apart(read_data_file(place / "world" / "data.jsonl", modalities=model.names))
    cache = {"no cache": None, "new cache": place / "for the peak", "full cache": place / "full"}[way]
    answers_of(model, records, cache, place / f"answers-peak-{way}.jsonl")
    print(peak_megabytes())


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--clips", type=int, default=100)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--peak", nargs=2, metavar=("FOLDER", "WAY"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    torch.set_num_threads(1)
    if options.peak:
        print_peak(Path(options.peak[0]), options.peak[1])
        return
    with tempfile.TemporaryDirectory() as place:
        rows = compare(Path(place), clips=options.clips, repeats=options.repeats)
    report("questions", rows, unit="CPU seconds of one thread", clips=options.clips)


if __name__ == "__main__":
    main()
