"""Separate models on SenseWorld, one table each: `make tables`.

The demo trains one model on all senses and asks subsets; here every row is a model of its own, trained on the same
clips with the same settings, as in the paper's tables: growing sets of senses (Table 3), sequential against joint
training (Table 17), fusion strategies (Table 8). Each row is repeated with several seeds; mean and spread are printed.

Prints a table and one line of JSON per question.
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

from crema_core.data.manifest import read_manifest
from crema_core.evaluation.run import evaluate
from crema_core.model.build import build
from crema_core.train.api import fit
from crema_core.world.demo import DemoSettings
from crema_core.world.generate import make_world

FUSIONS = ("self_gated", "concat", "linear", "cross_attention", "mixture")


def train_and_ask(
    out: Path, settings: DemoSettings, *, count: int | None = None, fusion: str = "self_gated", **training: Any
) -> float:
    """Train one model on the first `count` senses and return its accuracy on held-out clips."""
    senses = settings.modalities[:count]
    model = build(senses, backbone=settings.backbone, mmqa=settings.mmqa, fusion=fusion, seed=settings.seed)
    worlds = {
        split: make_world(out / split, num_clips=clips, seed=settings.seed, split=split)
        for split, clips in (("train", settings.train_clips), ("test", settings.test_clips))
    }
    fit(
        model,
        read_manifest(worlds["train"].manifest, modalities=model.names),
        out=out / "run",
        **{"seed": settings.seed, **settings.training, **training},
    )
    return evaluate(model, read_manifest(worlds["test"].manifest, modalities=model.names)).accuracy


def tables(settings: DemoSettings) -> dict[str, list[tuple[str, dict[str, Any]]]]:
    """Return the rows of every table: a label and the arguments of `train_and_ask`."""
    names = [sense["name"] for sense in settings.modalities]
    growing = [(" + ".join(names[:count]), {"count": count}) for count in range(1, len(names) + 1)]
    modes = [(mode, {"mode": mode}) for mode in ("sequential", "joint")]
    return {
        "sets of senses": growing,
        "training": modes,
        "fusion": [(fusion, {"fusion": fusion}) for fusion in FUSIONS],
    }


def main(arguments: Sequence[str] | None = None) -> int:
    """Train, ask and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--out", type=Path, default=Path("runs/tables"))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--clips", type=int, default=None, help="training clips; None: as the demo")
    parser.add_argument("--epochs", type=int, default=None, help="None: as the demo")
    parser.add_argument("--only", nargs="*", default=None, help="names of tables")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    settings = DemoSettings()
    if options.clips is not None:
        settings = replace(settings, train_clips=options.clips)
    if options.epochs is not None:
        settings = replace(settings, training={**settings.training, "epochs": options.epochs})
    for title, rows in tables(settings).items():
        if options.only and title not in options.only:
            continue
        results = []
        for label, row in rows:
            scores = [
                train_and_ask(
                    options.out / title.replace(" ", "_") / label.replace(" ", "") / str(seed),
                    replace(settings, seed=seed),
                    **row,
                )
                for seed in options.seeds
            ]
            spread = statistics.stdev(scores) if len(scores) > 1 else 0.0
            results.append({"row": label, "mean": statistics.mean(scores), "spread": spread, "seeds": scores})
            print(f"{title:<16} {label:<72} {statistics.mean(scores):6.1%} +- {spread:.1%}", flush=True)
        print(json.dumps({"table": title, "rows": results}), flush=True)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
