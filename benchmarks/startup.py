"""(e) Start-up: how long importing, the light commands and one `crema answer` take, each in a fresh interpreter.

The second table says where the time of `crema answer` goes: what importing each package takes by itself, and what comes
after all imports (`python -X importtime`, which makes imports a little slower). What is imported while the model is
built and the clip is read counts as importing.
"""

from __future__ import annotations

import argparse
import re
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from benchmarks.measure import report

COMMANDS = {
    "python -c pass": ["-c", "pass"],
    "import crema_core": ["-c", "import crema_core"],
    "crema_core.describe": ["-c", "import crema_core; crema_core.describe('video')"],
    "crema --help": ["-m", "crema_core.cli.main", "--help"],
    "crema plugins list": ["-m", "crema_core.cli.main", "plugins", "list"],
    "import torch": ["-c", "import torch"],
    "crema_core.build": ["-c", "import crema_core; crema_core.build"],
}
OWN = "crema (core and packages)"
_IMPORT = re.compile(r"import time:\s+(\d+) \|\s+\d+ \|\s*([\w.]+)")
MOST = 12
"""Packages in the table."""


def measure(arguments: list[str], repeats: int) -> tuple[float, float]:
    """Return the median wall and CPU seconds of a command."""
    walls, cpus = [], []
    for _ in range(repeats):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        start = time.perf_counter()
        subprocess.run([sys.executable, *arguments], check=True, capture_output=True)
        walls.append(time.perf_counter() - start)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        cpus.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    return statistics.median(walls), statistics.median(cpus)


def import_seconds(log: str) -> Counter[str]:
    """Return what importing took by top-level package, each module without those it imports.

    Args:
        log: what `python -X importtime` writes.
    """
    seconds: Counter[str] = Counter()
    for micros, module in _IMPORT.findall(log):
        package = module.partition(".")[0]
        seconds[OWN if package.startswith("crema_") else package] += int(micros) / 1e6
    return seconds


def shares(command: list[str], repeats: int) -> list[dict[str, object]]:
    """Return the seconds that a command spends on importing each package, and after all of it; medians."""
    turns: list[Counter[str]] = []
    for _ in range(repeats):
        start = time.perf_counter()
        log = subprocess.run([sys.executable, "-X", "importtime", *command], check=True, capture_output=True, text=True)
        whole = time.perf_counter() - start
        turn = import_seconds(log.stderr)
        turn["after imports: loading, reading, answering"] = whole - turn.total()
        turns.append(turn)
    parts = {part: statistics.median(turn[part] for turn in turns) for part in set().union(*turns)}
    named = sorted(parts, key=parts.__getitem__, reverse=True)[:MOST]
    named += [OWN] if OWN not in named else []
    rows: list[dict[str, object]] = [{"part": part, "seconds": round(parts[part], 2)} for part in named]
    return [*rows, {"part": "all others", "seconds": round(sum(parts[own] for own in parts if own not in named), 2)}]


def answer_command(folder: Path) -> list[str]:
    """Save a model and a clip, and return the arguments of an answer about it."""
    from crema_core.api.build import build
    from crema_core.data.data_file import read_data_file
    from crema_world.generate import make_world

    build(["video"], backbone="crema-tiny", seed=0).save_pretrained(folder / "model")
    make_world(folder / "world", num_clips=1, seed=0, split="test")
    clip = next(own.sources["video"] for own in read_data_file(folder / "world" / "data.jsonl") if own.sources)
    answer = ["-m", "crema_core.cli.main", "answer", str(folder / "model")]
    return [*answer, "what color is the shape?", "--video", str(clip)]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        answer = answer_command(Path(folder))
        rows = []
        for name, arguments in (COMMANDS | {"crema answer": answer}).items():
            wall, cpu = measure(arguments, options.repeats)
            rows.append({"command": name, "wall_s": round(wall, 3), "cpu_s": round(cpu, 3)})
        report("startup", rows)
        report("crema answer, by package", shares(answer, options.repeats))


if __name__ == "__main__":
    main()
