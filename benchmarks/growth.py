"""(f) How cost grows with modalities, frames and data: tokens and arithmetic of an answer, arithmetic of a training
run.

Counted on the shapes of a full-size backbone, so nothing here depends on the machine. A run is counted per sample:
its encoders once, with or without a cache, and in every epoch one sub-step per modality.
"""

from __future__ import annotations

import argparse

from benchmarks.measure import report
from crema_core.api.build import build
from crema_core.api.describe import VISION, cost_of

MODALITIES = ("video", "depth", "flow", "normals", "thermal", "touch")
FRAMES = (1, 2, 4, 8, 16, 32)


def by_modalities(backbone: str) -> list[dict[str, object]]:
    """Return a row for each number of modalities."""
    rows: list[dict[str, object]] = []
    model = build(list(MODALITIES), backbone=backbone)
    for count in range(1, len(MODALITIES) + 1):
        names = MODALITIES[:count]
        cost = cost_of(model, names)
        trainable = sum(p.numel() for name in names for p in model.adapter_parameters(name).values())
        rows.append(_row("modalities", count, cost.num_tokens, cost.total_gflops, cost.gflops.get(VISION, 0.0))
                    | {"adapters_m": round(trainable / 1e6, 2)})  # fmt: skip
    return rows


def by_frames(backbone: str) -> list[dict[str, object]]:
    """Return a row for each number of frames of video beside depth."""
    rows: list[dict[str, object]] = []
    for frames in FRAMES:
        model = build(
            [{"name": "video", "num_frames": frames}, {"name": "depth", "num_frames": frames}], backbone=backbone
        )
        cost = cost_of(model, model.names)
        rows.append(_row("frames", frames, cost.num_tokens, cost.total_gflops, cost.gflops.get(VISION, 0.0)))
    return rows


def by_data(backbone: str, epochs: int) -> list[dict[str, object]]:
    """Return a row for each amount of data: vision arithmetic of a run of four modalities, with and without a cache."""
    model = build(list(MODALITIES[:4]), backbone=backbone)
    vision = cost_of(model, model.names).gflops[VISION]
    return [
        {
            "what": "clips",
            "value": clips,
            "vision_pflop_released": round(vision * clips * epochs * len(model.names) / 1e6, 1),
            "vision_pflop_online": round(vision * clips * epochs / 1e6, 1),
            "vision_pflop_cached": round(vision * clips / 1e6, 1),
        }
        for clips in (1_000, 10_000, 100_000)
    ]


def _row(what: str, value: int, tokens: int, gflops: float, vision: float) -> dict[str, object]:
    return {
        "what": what,
        "value": value,
        "prompt": tokens,
        "answer_gflop": round(gflops),
        "vision_gflop": round(vision),
    }


def main() -> None:
    """Count and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--backbone", default="blip2-flan-t5-xl")
    parser.add_argument("--epochs", type=int, default=10)
    options = parser.parse_args()
    report("growth_modalities", by_modalities(options.backbone), backbone=options.backbone)
    report("growth_frames", by_frames(options.backbone), backbone=options.backbone)
    report("growth_data", by_data(options.backbone, options.epochs), backbone=options.backbone, epochs=options.epochs)


if __name__ == "__main__":
    main()
