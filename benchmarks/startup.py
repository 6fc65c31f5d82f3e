"""(e) Start-up: how long importing and the light commands take, each in a fresh interpreter."""

from __future__ import annotations

import argparse
import resource
import statistics
import subprocess
import sys
import time

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


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    rows = []
    for name, arguments in COMMANDS.items():
        wall, cpu = measure(arguments, options.repeats)
        rows.append({"command": name, "wall_s": round(wall, 3), "cpu_s": round(cpu, 3)})
    report("startup", rows)


if __name__ == "__main__":
    main()
