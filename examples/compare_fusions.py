"""Train the same modalities with every fusion and compare accuracy, tokens and trained parameters.

    python examples/compare_fusions.py --clips 200 --epochs 4

The encoders' features do not depend on the fusion, so what differs is the fusion alone (the paper's Table 8 asks the
same). With few clips the accuracies are noise; the costs are not.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from tempfile import TemporaryDirectory

import crema_core
from crema_core.common.tables import table
from crema_core.evaluation.run import evaluate
from crema_world import make_world

MODALITIES = ["video", "depth", "thermal"]


def main() -> None:
    """Print a row per fusion."""
    parser = argparse.ArgumentParser(description="Compare the fusions.")
    parser.add_argument("--backbone", default="crema-tiny", help="folder or hub id in BLIP-2 format")
    parser.add_argument("--clips", type=int, default=100, help="clips to train on")
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--fusions", nargs="+", default=crema_core.registry.usable_names("fusion"), metavar="NAME")
    arguments = parser.parse_args()

    rows = [["fusion", "accuracy", "tokens", "trained parameters", "GFLOPs"]]
    with TemporaryDirectory() as folder:
        place = Path(folder)
        train = make_world(place / "train", num_clips=arguments.clips, seed=0, split="train").data_file
        test = make_world(place / "test", num_clips=max(arguments.clips // 4, 2), seed=0, split="test").data_file
        for fusion in arguments.fusions:
            model = crema_core.build(MODALITIES, backbone=arguments.backbone, fusion=fusion, mmqa={"lora_rank": 8})
            crema_core.fit(model, train, preset="tiny", epochs=arguments.epochs, out=place / "runs" / fusion)
            result, total = evaluate(model, test), model.describe().total
            cells = [f"{result.accuracy:.1%}", f"{result.tokens_per_answer:.0f}", f"{total.trainable:,}"]
            rows.append([fusion, *cells, f"{total.gflops:.2f}"])
    print(table(rows))


if __name__ == "__main__":
    main()
