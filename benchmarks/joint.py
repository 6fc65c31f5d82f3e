"""(b), (c) Sequential and joint training, and individual Q-Formers: CPU time and memory of one minibatch.

Four modalities on given features. Individual Q-Formers are the paper's baseline, one fully trained copy per modality,
nothing fused, so that the language model reads every modality's tokens; see `crema_core.fusion.individual`. Each mode
is measured in a process of its own, so that the peaks do not mix.
"""

from __future__ import annotations

import argparse
import multiprocessing
import tempfile
from pathlib import Path
from typing import Any

import torch

from benchmarks.measure import alternate, median, peak_megabytes, report
from benchmarks.moderate import moderate_backbone, moderate_model, moderate_stepper, random_batch, specs
from benchmarks.naive import naive_minibatch
from benchmarks.sequential import LEAN
from crema_core.api.build import build
from crema_core.model.allocator import retain_freed_memory
from crema_core.train.steps import Minibatch

INDIVIDUAL = "individual Q-Formers, joint"
SETTINGS: dict[str, dict[str, Any]] = {
    "sequential": {},
    "sequential, retained_graphs=2, micro_batch_size=[2, 3, 8]": LEAN,
    "sequential, retained_graphs=0": {"retained_graphs": 0},
    "sequential, retained_graphs=2, micro_batch_size=2": {"retained_graphs": 2, "micro_batch_size": 2},
    "naive sequential": {},
    "joint": {},
    "joint, micro_batch_size=2": {"micro_batch_size": 2},
    INDIVIDUAL: {},
}


def measure(mode: str, folder: Path, repeats: int) -> dict[str, object]:
    """Return the median CPU seconds of a minibatch and what it adds to the memory of the built model."""
    torch.set_num_threads(1)
    if mode == INDIVIDUAL:
        model = build(specs(4, "features"), backbone=str(folder), seed=0, fusion="individual_qformers")
    else:
        model = moderate_model(folder, 4, "features")
    stepper = moderate_stepper(model, folder, **SETTINGS[mode])
    batch, inputs = random_batch(model, 0)
    kept = model.encode(inputs)
    before = peak_megabytes()
    update = stepper.sequential if mode.startswith("sequential") else stepper.joint

    def task() -> None:
        if mode == "naive sequential":
            naive_minibatch(stepper, batch, inputs, order=model.names, given=kept)
        else:
            update([Minibatch(batch, kept)], model.names)

    with retain_freed_memory():
        seconds = alternate({mode: task}, repeats=repeats)[mode]
    trained = sum(parameter.numel() for parameter in model.trainable_parameters().values())
    return {
        "mode": mode,
        "cpu_s": median(seconds),
        "added_mb": round(peak_megabytes() - before),
        "trained_m": round(trained / 1e6, 2),
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--modes", nargs="+", choices=list(SETTINGS), default=list(SETTINGS))
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        folder = moderate_backbone(Path(place) / "backbone")
        with multiprocessing.get_context("spawn").Pool(1, maxtasksperchild=1) as pool:
            rows = [pool.apply(measure, (mode, folder, options.repeats)) for mode in options.modes]
    report("joint_against_sequential", rows, unit="CPU seconds of one thread; 10^6 bytes")


if __name__ == "__main__":
    main()
