"""What keeping features in bf16 costs in accuracy: models trained on SenseWorld from exact and from rounded features.

Each seed trains the demo's model twice, on the same clips with the same settings; only `cache_precision` differs.
Differences are paired by seed; the question is whether they are larger than their spread.

Prints a table and one line of JSON.
"""

from __future__ import annotations

import argparse
import json
import statistics
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from crema_core.api.build import build
from crema_core.data.data_file import read_data_file
from crema_core.evaluation.run import evaluate
from crema_core.features.cache.folder import summarize
from crema_core.features.cache.store import DiskCache
from crema_core.features.feature_cache import FeatureCache
from crema_core.model.precision import DTYPES
from crema_core.train.fit import fit
from crema_world.demo import DemoSettings, training_records
from crema_world.generate import WorldSummary, make_world

PRECISIONS = ("fp32", "bf16")


Worlds = tuple[WorldSummary, WorldSummary]


def make_worlds(out: Path, settings: DemoSettings) -> Worlds:
    """Make the clips to train on and those to ask about."""
    return (
        make_world(out / "train", num_clips=settings.train_clips, seed=settings.seed, split="train"),
        make_world(out / "test", num_clips=settings.test_clips, seed=settings.seed, split="test"),
    )


def train_and_ask(out: Path, worlds: Worlds, settings: DemoSettings, *, precision: str) -> dict[str, Any]:
    """Train on features kept in `precision`; return accuracy on held-out clips and the size of what was kept."""
    train, test = worlds
    model = build(settings.modalities, backbone=settings.backbone, mmqa=settings.mmqa, seed=settings.seed)
    folder = out / f"features-{precision}"
    fit(
        model,
        training_records(train, settings, model.names),
        out=out / f"run-{precision}",
        cache=str(folder),
        cache_precision=precision,
        seed=settings.seed,
        **settings.training,
    )
    dtype = None if precision == "fp32" else DTYPES[precision]
    cache = FeatureCache(model, dtype=dtype, disk=DiskCache(folder))
    result = evaluate(model, read_data_file(test.data_file, modalities=model.names), cache=cache)
    return {
        "accuracy": result.accuracy,
        "questions": result.num_samples,
        "num_bytes": sum(own.num_bytes for own in summarize(folder).modalities),
    }


def main(arguments: Sequence[str] | None = None) -> int:
    """Train, ask and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--out", type=Path, default=Path("runs/cache_precision"))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--clips", type=int, default=None, help="training clips; None: as the demo")
    parser.add_argument("--test-clips", type=int, default=None, help="held-out clips; None: as the demo")
    parser.add_argument("--epochs", type=int, default=None, help="None: as the demo")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    settings = DemoSettings()
    settings = replace(
        settings,
        train_clips=options.clips or settings.train_clips,
        test_clips=options.test_clips or settings.test_clips,
        training=settings.training | ({} if options.epochs is None else {"epochs": options.epochs}),
    )
    print(f"{'seed':>4} {'fp32':>7} {'bf16':>7} {'difference':>11} {'MB fp32':>8} {'MB bf16':>8}")
    rows = []
    for seed in options.seeds:
        out, own = options.out / f"{seed}", replace(settings, seed=seed)
        worlds = make_worlds(out, own)
        found = {name: train_and_ask(out, worlds, own, precision=name) for name in PRECISIONS}
        exact, rounded = (found[precision] for precision in PRECISIONS)
        rows.append({"seed": seed, **found})
        print(
            f"{seed:>4} {exact['accuracy']:>7.1%} {rounded['accuracy']:>7.1%} "
            f"{rounded['accuracy'] - exact['accuracy']:>+11.1%} {exact['num_bytes'] / 1e6:>8.1f} "
            f"{rounded['num_bytes'] / 1e6:>8.1f}",
            flush=True,
        )
    differences = [row["bf16"]["accuracy"] - row["fp32"]["accuracy"] for row in rows]
    spread = statistics.stdev(differences) if len(differences) > 1 else None
    mean = statistics.mean(differences)
    print(f"mean difference {mean:+.2%}" + ("" if spread is None else f" +- {spread:.2%} (spread over seeds)"))
    print(json.dumps({"benchmark": "cache_precision", "rows": rows, "mean_difference": mean, "spread": spread}))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
