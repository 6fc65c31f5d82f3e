"""PAVE on SenseWorld: a tiny video language model with and without side channels, accuracy and arithmetic.

The backbone comes from `python -m crema_core.world.pretrain_video --out FOLDER`. Rows: as it is (zero-shot), with LoRA
on the language model and video alone, and with LoRA and patches for one and for several side senses. Every row is asked
the same questions, those about `video` and about all side senses; a side sense that a row lacks can only be guessed.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.measure import report
from crema_core.data.manifest import Record, read_manifest
from crema_core.evaluation.run import evaluate
from crema_core.model.build import build
from crema_core.report.describe import cost_of
from crema_core.train.api import fit
from crema_core.world.generate import make_world
from crema_core.world.questions import SENSE_OF_TYPE

VIDEO: dict[str, Any] = {"name": "video", "num_frames": 2}
SIDES: dict[str, dict[str, Any]] = {
    "audio": {"name": "audio", "window_s": 0.64, "num_windows": 4},
    "thermal": {"name": "thermal", "num_frames": 1},
    "touch": {"name": "touch"},
}
FUSION = {"name": "pave", "embed_dim": 64, "num_heads": 4, "newlines": "one_token"}
LORA = {"rank": 16, "alpha": 16, "dropout": 0.0}
TRAINING: dict[str, Any] = {"mode": "joint", "batch_size": 32, "lr": 3e-3, "weight_decay": 0.01, "clip_norm": 1.0}


def records(manifest: Path, sides: Sequence[str]) -> list[Record]:
    """Return the questions about video and the given side senses, with the sources of these alone."""
    names = ("video", *sides)
    return [record for record in read_manifest(manifest, modalities=names) if SENSE_OF_TYPE.get(record.type) in names]


def measure(
    backbone: Path, out: Path, own: Sequence[str], all_sides: Sequence[str], *, epochs: int, seed: int
) -> dict[str, Any]:
    """Train with some side senses (none at all for epochs=0) and return a row of the table."""
    model = build(
        [VIDEO, *(SIDES[name] for name in own)],
        backbone=backbone,
        fusion=FUSION,
        tuning=LORA if epochs else None,
        seed=seed,
    )
    if epochs:
        data = records(out / "train" / "manifest.jsonl", all_sides)
        fit(model, data, out=out / f"run-{'-'.join(model.names)}", epochs=epochs, seed=seed, **TRAINING)
    result = evaluate(model, records(out / "test" / "manifest.jsonl", all_sides))
    by_sense: dict[str, list[float]] = {}
    for kind, accuracy in result.by_type.items():
        by_sense.setdefault(SENSE_OF_TYPE[kind], []).append(accuracy)
    cost = cost_of(model, model.names)
    trained = sum(parameter.numel() for parameter in model.trainable_parameters().values())
    label = "zero-shot" if not epochs else "LoRA, " + (f"PAVE with {' and '.join(own)}" if own else "video alone")
    return {
        "row": label,
        "accuracy": round(100 * result.accuracy, 1),
        **{f"about {name}": round(100 * sum(found) / len(found), 1) for name, found in sorted(by_sense.items())},
        "tokens": cost.num_tokens,
        "GFLOP": round(cost.total_gflops, 3),
        "of fusion": round(cost.gflops.get("fusion", 0.0), 3),
        "trained": trained,
    }


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--backbone", type=Path, required=True, help="folder that pretrain_video wrote")
    parser.add_argument("--out", type=Path, default=Path("runs/pave"))
    parser.add_argument("--sides", nargs="+", choices=sorted(SIDES), default=["audio", "thermal", "touch"])
    parser.add_argument("--clips", type=int, default=300, help="clips to train on; a third as many to test on")
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args(arguments)
    for split, clips in (("train", given.clips), ("test", given.clips // 3)):
        make_world(given.out / split, num_clips=clips, seed=given.seed, split=split)
    plans: list[tuple[list[str], int]] = [([], 0), ([], given.epochs), (given.sides[:1], given.epochs)]
    if len(given.sides) > 1:
        plans.append((given.sides, given.epochs))
    rows = [
        measure(given.backbone, given.out, own, given.sides, epochs=epochs, seed=given.seed) for own, epochs in plans
    ]
    report("pave", rows, clips=given.clips, epochs=given.epochs, seed=given.seed)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
