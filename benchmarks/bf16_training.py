"""What bf16 does to a training: sequential, fp32 against bf16, video and sound of SenseWorld on crema-tiny.

Frozen parts in bf16 and forward passes computed in it, weights that are trained in float32. The clips, questions and
settings are those of `benchmarks/by_hand.py`, every training a process of its own. CPU seconds say what bf16 costs on
this CPU alone: without matrix units for it, it is emulated.

    python -m benchmarks.bf16_training --seeds 0 1 2
"""

from __future__ import annotations

import argparse
import json
import statistics
from pathlib import Path

from benchmarks.by_hand import SEQUENTIAL, make_data, train_apart
from benchmarks.measure import report
from crema_core.model.precision import has_bf16_units


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--place", type=Path, default=Path("runs/by_hand"), help="of the world")
    parser.add_argument("--clips", type=int, default=320)
    parser.add_argument("--test-clips", type=int, default=100)
    parser.add_argument("--epochs", type=int, default=6)
    parser.add_argument("--lr", type=float, default=2e-3)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--precisions", nargs="+", choices=("fp32", "bf16"), default=["fp32", "bf16"])
    given = parser.parse_args()
    make_data(given.place, clips=given.clips, test_clips=given.test_clips)
    rows = []
    for precision in given.precisions:
        settings = {"epochs": given.epochs, "lr": given.lr}
        found = []
        for seed in given.seeds:
            found.append(train_apart(SEQUENTIAL, given.place, **settings, seed=seed, precision=precision))
            print(json.dumps({"precision": precision, "seed": seed} | found[-1]), flush=True)
        accuracies = [100 * one["accuracy"] for one in found]
        rows.append(
            {
                "precision": precision,
                "accuracy": round(statistics.mean(accuracies), 1),
                "+-": round(statistics.stdev(accuracies), 1) if len(found) > 1 else "",
                "CPU s": round(statistics.median(one["cpu_s"] for one in found), 1),
                "MB": round(statistics.median(one["MB"] for one in found)),
            }
        )
    report("bf16_training", rows, matrix_units=has_bf16_units(), epochs=given.epochs, seeds=given.seeds)


if __name__ == "__main__":
    main()
