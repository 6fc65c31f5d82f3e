"""Counted arithmetic of a sequential minibatch at full size, on shapes without weights: naive loop and engine.

BLIP-2 FlanT5-XL, video, depth, flow and normals as four per-frame modalities of 4 frames of 224 pixels, LoRA rank 64,
self-gated fusion, one sample. Both loops run for real on weights that take no memory; products are counted and skipped.
A multiply-add counts as two.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable
from pathlib import Path

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel

from benchmarks.measure import report
from benchmarks.moderate import moderate_stepper
from benchmarks.naive import naive_minibatch
from crema_core.api.build import build
from crema_core.api.model import CremaModel
from crema_core.data.data_file import Record
from crema_core.data.dataset import TrainBatch
from crema_core.model.flops import FlopMeter
from crema_core.tokens import ModalityBatch, ModalityFeatures
from crema_core.train.steps import Minibatch

MODALITIES = ("video", "depth", "flow", "normals")
QUESTION = "what happens after the person opens the door and looks around in the room ?"


def samples(model: CremaModel, number: int) -> tuple[TrainBatch, dict[str, ModalityBatch]]:
    """Return questions with a synthetic example of every modality."""
    generator = torch.Generator().manual_seed(0)
    rows = torch.arange(number)
    inputs = {}
    for name in model.names:
        modality = model.branch(name).modality
        prepared = [modality.prepare(modality.example(generator)) for _ in range(number)]
        inputs[name] = ModalityBatch(modality.collate(prepared), rows)
    records = tuple(
        Record(id=str(row), question=QUESTION, answer="Option A", sources={}, line=row + 1) for row in range(number)
    )
    return TrainBatch(records, dict.fromkeys(model.names, rows), inputs), inputs


def count(task: Callable[[], object]) -> dict[str, int]:
    """Return the operations of `task`: forward ones of the three large parts, everything else under "rest"."""
    meter = FlopMeter("rest")
    meter.enter("rest", skip=True)
    with sdpa_kernel(SDPBackend.MATH), meter:
        task()
    return dict(meter.flops)


def main() -> None:
    """Count and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--backbone", default="blip2-flan-t5-xl")
    parser.add_argument("--modalities", nargs="+", default=list(MODALITIES))
    options = parser.parse_args()
    model = build(options.modalities, backbone=options.backbone, mmqa={"lora_rank": 64})
    with tempfile.TemporaryDirectory() as place:
        stepper = moderate_stepper(model, Path(place))
        batch, inputs = samples(model, 1)
        kept: dict[str, ModalityFeatures] = {}

        def encode() -> None:
            kept.update(model.encode(inputs))

        once = sum(count(encode).values())
        given = sum(count(lambda: naive_minibatch(stepper, batch, inputs, order=model.names, given=kept)).values())
        engine = sum(count(lambda: stepper.sequential([Minibatch(batch, kept)], model.names)).values())
    naive = given + once * len(model.names)
    rows = [
        {"loop": "naive", "tflop": round(naive / 1e12, 2), "times_less": 1.0},
        {"loop": "engine", "tflop": round((engine + once) / 1e12, 2), "times_less": round(naive / (engine + once), 2)},
        {"loop": "engine, features cached", "tflop": round(engine / 1e12, 2), "times_less": round(naive / engine, 2)},
    ]
    report("flops_of_a_minibatch", rows, backbone=options.backbone, modalities=options.modalities,
           encoder_tflop=round(once / 1e12, 3))  # fmt: skip


if __name__ == "__main__":
    main()
