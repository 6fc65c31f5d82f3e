"""(b) Sequential against joint training: CPU time and peak memory of one minibatch, four senses on given features.

Each mode is measured in a process of its own, so that the peaks do not mix.
"""

from __future__ import annotations

import argparse
import multiprocessing
import tempfile
from pathlib import Path

import torch

from benchmarks.measure import alternate, median, peak_megabytes, report
from benchmarks.moderate import moderate_backbone, moderate_model, moderate_stepper, random_batch
from benchmarks.naive import naive_minibatch
from crema_core.train.steps import Minibatch

MODES = ("sequential", "naive sequential", "joint")


def measure(mode: str, folder: Path, repeats: int) -> dict[str, object]:
    """Return the median CPU seconds of a minibatch and what it adds to the memory of the built model."""
    torch.set_num_threads(1)
    model = moderate_model(folder, 4, "features")
    stepper = moderate_stepper(model, folder)
    batch, inputs = random_batch(model, 0)
    kept = model.encode(inputs)
    before = peak_megabytes()
    tasks = {
        "sequential": lambda: stepper.sequential([Minibatch(batch, kept)], model.names),
        "naive sequential": lambda: naive_minibatch(stepper, batch, inputs, order=model.names, given=kept),
        "joint": lambda: stepper.joint([Minibatch(batch, kept)], model.names),
    }
    seconds = alternate({mode: tasks[mode]}, repeats=repeats)[mode]
    return {"mode": mode, "cpu_s": median(seconds), "added_mb": round(peak_megabytes() - before)}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        folder = moderate_backbone(Path(place) / "backbone")
        with multiprocessing.get_context("spawn").Pool(1, maxtasksperchild=1) as pool:
            rows = [pool.apply(measure, (mode, folder, options.repeats)) for mode in MODES]
    report("joint_against_sequential", rows, unit="CPU seconds of one thread; 10^6 bytes")


if __name__ == "__main__":
    main()
