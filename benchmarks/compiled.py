"""torch.compile of the frozen layers against running them as they are: CPU time of a sequential minibatch.

The ViT runs online, so that its layers are part of the work. The first minibatch compiles; its time is a column of its
own.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import torch

from benchmarks.measure import alternate, median, ratio, report
from benchmarks.moderate import moderate_backbone, moderate_model, moderate_stepper, random_batch
from crema_core.model.kernels import compiled
from crema_core.train.steps import Minibatch


def measure(folder: Path, count: int, repeats: int) -> dict[str, object]:
    """Compare two equal models, one of them compiled."""
    plain, fast = (moderate_model(folder, count, "vision") for _ in range(2))
    steppers = {name: moderate_stepper(model, folder) for name, model in (("plain", plain), ("compiled", fast))}
    batch, inputs = random_batch(plain, count)

    def minibatch(name: str) -> None:
        stepper = steppers[name]
        stepper.sequential([Minibatch(batch, stepper.model.encode(inputs))], stepper.model.names)

    with compiled([fast.backbone.vision_model, fast.backbone.language_model], enabled=True):
        start = time.perf_counter()
        minibatch("compiled")
        first = time.perf_counter() - start
        tasks = {"plain": lambda: minibatch("plain"), "compiled": lambda: minibatch("compiled")}
        seconds = alternate(tasks, repeats=repeats)
    return {
        "modalities": count,
        "plain_s": median(seconds["plain"]),
        "compiled_s": median(seconds["compiled"]),
        "faster": round(ratio(seconds, "plain", "compiled"), 2),
        "first_wall_s": round(first, 1),
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--modalities", type=int, nargs="+", default=[4])
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as place:
        folder = moderate_backbone(Path(place) / "backbone")
        rows = [measure(folder, count, options.repeats) for count in options.modalities]
    report("compiled_frozen_layers", rows, unit="CPU seconds of one thread")


if __name__ == "__main__":
    main()
