"""(g) Training at the paper's size on one GPU, with random weights: time and memory of a minibatch.

BLIP-2 FlanT5-XL frozen in bfloat16, video, flow, depth and normals of 4 frames, batch 4, LoRA rank 64 (Table 15), once
with MMQA, sequential with the ViT online and with its features given, and once with individual Q-Formers, joint. The
weights are random numbers of the right shapes, so nothing is downloaded. The share is of what the same device reaches
in one large matrix product of the same number format.

    python -m benchmarks.full_size
    python -m benchmarks.full_size --backbone blip2-opt-2.7b --batch 2
"""

from __future__ import annotations

import argparse
import gc
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from benchmarks.flops import MODALITIES, count, samples
from benchmarks.measure import peak_megabytes, report
from benchmarks.moderate import moderate_stepper
from crema_core.api.build import build
from crema_core.api.model import CremaModel
from crema_core.model.load_backbone import load_backbone
from crema_core.train.steps import Minibatch

MMQA = {"lora_rank": 64}


def materialize(model: CremaModel, device: torch.device) -> None:
    """Give every parameter memory and random values; tied ones stay tied."""
    torch.manual_seed(0)
    made: dict[int, torch.nn.Parameter] = {}
    for module in model.modules():
        for name, old in list(module.named_parameters(recurse=False)):
            if id(old) not in made:
                values = torch.empty(old.shape, dtype=old.dtype, device=device)
                values = values.fill_(1.0) if name == "weight" and old.dim() == 1 else values.normal_(std=0.02)
                made[id(old)] = torch.nn.Parameter(values, requires_grad=old.requires_grad)
            setattr(module, name, made[id(old)])
    model.backbone.shape_only = False
    model.to(device)


def measure(name: str, model: CremaModel, options: Any, folder: Path, matrix_tflops: float) -> list[dict[str, Any]]:
    """Return a row per way of training one model."""
    device = torch.device(options.device)
    batch, inputs = samples(model, options.batch)
    stepper = moderate_stepper(model, folder, precision="bf16")
    flops = {}
    kept: dict[str, Any] = {}
    if model.backbone.shape_only:
        online = sum(count(lambda: kept.update(model.encode(inputs))).values())
        step = stepper.joint if name == "individual" else stepper.sequential
        given = sum(count(lambda: step([Minibatch(batch, kept)], model.names)).values())
        flops = {"online": (online + given) / 1e12, "cached": given / 1e12}
        del kept, stepper
        materialize(model, device)
        stepper = moderate_stepper(model, folder, precision="bf16")
    update = stepper.joint if name == "individual" else stepper.sequential
    features = model.encode(inputs)
    ways: dict[str, Callable[[], object]] = {
        "online": lambda: update([Minibatch(batch, model.encode(inputs))], model.names),
        "cached": lambda: update([Minibatch(batch, features)], model.names),
    }
    rows = []
    for way, task in ways.items():
        seconds, peak = timed(task, device, options.repeats)
        row = {"model": name, "vision": way, "peak_gib": round(peak / 2**30, 2), "step_s": round(seconds, 4),
               "samples_s": round(options.batch / seconds, 2)}  # fmt: skip
        if way in flops:
            row |= {"tflop": round(flops[way], 1), "share": round(flops[way] / seconds / matrix_tflops, 3)}
        rows.append(row)
    return rows


def timed(task: Callable[[], object], device: torch.device, repeats: int) -> tuple[float, float]:
    """Return the median seconds of a step after two unmeasured ones, and the largest number of bytes in use."""
    seconds = []
    for turn in range(repeats + 2):
        if turn == 2 and device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(device)
        synchronize(device)
        start = time.perf_counter()
        task()
        synchronize(device)
        if turn >= 2:
            seconds.append(time.perf_counter() - start)
    peak = torch.cuda.max_memory_allocated(device) if device.type == "cuda" else peak_megabytes() * 1e6
    return sorted(seconds)[len(seconds) // 2], peak


def matrix_throughput(device: torch.device, side: int) -> float:
    """Return TFLOP/s of one large bfloat16 product."""
    left, right = (torch.randn(side, side, dtype=torch.bfloat16, device=device) for _ in range(2))
    seconds, _ = timed(lambda: left @ right, device, 10)
    return 2 * side**3 / seconds / 1e12


def synchronize(device: torch.device) -> None:
    """Wait for the device."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--backbone", default="blip2-flan-t5-xl")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--repeats", type=int, default=10)
    options = parser.parse_args()
    device = torch.device(options.device)
    cuda = device.type == "cuda"
    matrix_tflops = matrix_throughput(device, 8192 if cuda else 1024)
    rows = []
    with tempfile.TemporaryDirectory() as place:
        for name in ("mmqa", "individual"):
            backbone = load_backbone(options.backbone, precision="bf16")
            fusion = "self_gated" if name == "mmqa" else "individual_qformers"
            model = build(list(MODALITIES), backbone=backbone, mmqa=MMQA, fusion=fusion)
            if not model.backbone.shape_only:
                model.to(device)
            rows += measure(name, model, options, Path(place), matrix_tflops)
            del model, backbone
            gc.collect()
            if cuda:
                torch.cuda.empty_cache()
    name = torch.cuda.get_device_name(device) if cuda else "cpu"
    facts = {"backbone": options.backbone, "batch": options.batch, "device": name}
    report("full_size", rows, **facts, matrix_tflops=round(matrix_tflops, 1))


if __name__ == "__main__":
    main()
