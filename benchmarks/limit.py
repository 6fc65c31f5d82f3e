"""What is left between the engine and the limit: where the time of a sequential minibatch goes.

The limit is the arithmetic that must be done (n passes of the language model forward and backward to its inputs, each
modality's Q-Former forward twice and backward once) at the rate of one large matrix product on the same machine. Every
operator of a profiled minibatch is put into one group; what is between operators (Python, autograd, allocation) is
what remains of the time. Moderate sizes, features given.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.profiler import ProfilerActivity, profile

from benchmarks.measure import report
from benchmarks.moderate import moderate_backbone, moderate_model, moderate_stepper, random_batch
from crema_core.model.allocator import retain_freed_memory
from crema_core.model.flops import FlopMeter
from crema_core.train.steps import Minibatch

GROUPS = {
    "products": ("addmm", "mm", "bmm", "baddbmm"),
    "attention": ("_scaled_dot_product", "_flash_attention", "_softmax", "softmax"),
    "random numbers of dropout": ("bernoulli", "native_dropout"),
    "copies and sums over copies": ("copy_", "cat", "clone", "index", "gather", "embedding", "fill_", "zero_", "sum"),
}
"""By how the names of operators begin; what fits none is "elementwise and norms"."""


def group_of(operator: str) -> str:
    """Return the group of an operator of a profile."""
    name = operator.removeprefix("aten::")
    for group, starts in GROUPS.items():
        if any(name == start or (len(start) > 3 and name.startswith(start)) for start in starts):
            return group
    return "elementwise and norms" if operator.startswith("aten::") else "between operators"


def in_optimizer(event: Any) -> bool:
    """Whether an event runs inside an optimizer's step."""
    while event is not None:
        if event.name.startswith("Optimizer."):
            return True
        event = event.cpu_parent
    return False


def product_rate(size: int = 2048) -> float:
    """Return the rate of a large matrix product, in FLOP/s of CPU time; the best of seven."""
    left, right = torch.randn(size, size), torch.randn(size, size)
    rates = []
    for _ in range(7):
        start = time.process_time()
        torch.mm(left, right)
        rates.append(2 * size**3 / (time.process_time() - start))
    return max(rates)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--modalities", type=int, default=4)
    options = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as place, retain_freed_memory():
        folder = moderate_backbone(Path(place) / "backbone")
        model = moderate_model(folder, options.modalities, "features")
        stepper = moderate_stepper(model, folder)
        batch, inputs = random_batch(model, 0)
        minibatch = Minibatch(batch, model.encode(inputs))
        stepper.sequential([minibatch], model.names)  # warm
        with sdpa_kernel(SDPBackend.MATH), FlopMeter("all") as meter:
            stepper.sequential([minibatch], model.names)
        flops, rate = sum(meter.flops.values()), product_rate()
        with profile(activities=[ProfilerActivity.CPU], acc_events=True) as found:
            start = time.process_time()
            stepper.sequential([minibatch], model.names)
            whole = time.process_time() - start  # the profiler's own work comes when it is left
    seconds: dict[str, float] = defaultdict(float)
    for event in found.events():
        group = "optimizer" if in_optimizer(event) else group_of(event.name)
        seconds[group] += event.self_cpu_time_total / 1e6
    seconds["between operators"] += whole - sum(seconds.values())
    limit = flops / rate
    rows = [{"part": "limit: the arithmetic at the rate of one large product", "s": round(limit, 2)}]
    rows += [{"part": part, "s": round(value, 2), "share": f"{value / whole:.0%}"}
             for part, value in sorted(seconds.items(), key=lambda item: -item[1])]  # fmt: skip
    rows.append({"part": "whole", "s": round(whole, 2), "share": "100%"})
    report("left_to_the_limit", rows, modalities=options.modalities, tflop=round(flops / 1e12, 3),
           gflop_per_s=round(rate / 1e9, 1))  # fmt: skip


if __name__ == "__main__":
    main()
