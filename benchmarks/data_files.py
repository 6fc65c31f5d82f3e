"""What reading a data file costs: CPU time and memory for a number of lines, each reading in a process of its own.

A line has `id`, `type`, `question`, `answer`, four `choices`, and the paths of a video and a sound; ten lines ask about
one clip, and there are at most a thousand clips.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import random
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from benchmarks.measure import peak_megabytes, report
from crema_core.data.check import check_data_file
from crema_core.data.data_file import read_data_file

VERBS: dict[str, Callable[[Path], object]] = {"read_data_file": read_data_file, "crema data check": check_data_file}
MODALITIES = {"video": "clips/video_{:06}.mp4", "audio": "clips/sound_{:06}.wav"}
MOST_CLIPS = 1_000
WORDS = "which instrument is louder in the left part of this picture before a man walks behind the red car".split()
ANSWERS = ("guitar", "piano", "drum", "violin", "flute", "trumpet", "cello", "harp")


def write_lines(folder: Path, num_lines: int) -> Path:
    """Write a data file and the files it names, which are not empty but hold nothing."""
    (folder / "clips").mkdir(exist_ok=True)
    num_clips = max(1, min(num_lines // 10, MOST_CLIPS))
    for path in (own.format(number) for own in MODALITIES.values() for number in range(num_clips)):
        (folder / path).write_bytes(b"x")
    chance = random.Random(0)
    place = folder / f"{num_lines}.jsonl"
    with place.open("w", encoding="utf-8") as stream:
        for number in range(num_lines):
            choices = chance.sample(ANSWERS, 4)
            line = {
                "id": f"q{number:08}",
                "type": chance.choice(("sound", "count", "where")),
                "question": f"{' '.join(chance.choices(WORDS, k=10))} ?",
                "answer": chance.choice(choices),
                "choices": choices,
            }
            clip = number * num_clips // num_lines
            stream.write(json.dumps(line | {key: path.format(clip) for key, path in MODALITIES.items()}) + "\n")
    return place


def measure(verb: str, place: Path) -> dict[str, object]:
    """Return what one reading costs; the packages of modalities are loaded before."""
    VERBS[verb](write_lines(place.parent, 1))
    memory, start = peak_megabytes(), time.process_time()
    VERBS[verb](place)
    seconds = time.process_time() - start
    return {"verb": verb, "cpu_s": round(seconds, 2), "added_mb": round(peak_megabytes() - memory)}


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--lines", nargs="+", type=int, default=[100_000, 1_000_000])
    options = parser.parse_args(arguments)
    rows: list[dict[str, object]] = []
    with (
        tempfile.TemporaryDirectory() as folder,
        multiprocessing.get_context("spawn").Pool(1, maxtasksperchild=1) as pool,
    ):
        for num_lines in options.lines:
            place = write_lines(Path(folder), num_lines)
            rows += ({"lines": num_lines} | pool.apply(measure, (verb, place)) for verb in VERBS)
    report("data_files", rows, unit="CPU seconds; 10^6 bytes")


if __name__ == "__main__":
    main()
