"""Which encoder gives what on SenseWorld (MERV, the comparison of its Figure 4): `python -m benchmarks.merv`.

Three small encoders that know different things (`crema_world.pretrain_encoders`) see clips of rooms in which
things have colours and shapes, walls a surface, and one thing moves (`crema_world.moving`). Every row is a model
of its own, trained as MERV's frozen recipe trains: projectors, mixer and the language model at once. Rows: each encoder
alone, all of them, all but one.

Prints the table, the mean share of each encoder by question type in the model of all, and one line of JSON.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from crema_core.api.build import build
from crema_core.api.describe import cost_of
from crema_core.common.tables import table
from crema_core.data.data_file import read_data_file
from crema_core.evaluation.run import evaluate
from crema_core.train.fit import fit
from crema_world.moving import TYPES, make_moving_world
from crema_world.pretrain_encoders import Schedule, encoders_in, pretrain_encoders

TRAINING: dict[str, Any] = {
    "mode": "joint", "batch_size": 32, "lr": 1e-3, "weight_decay": 0.01, "warmup_steps": 20, "max_grad_norm": 1.0,
}  # fmt: skip


def rows_of(names: list[str]) -> dict[str, list[str]]:
    """Return the sets of encoders by the label of their row."""
    single = {f"{name} alone": [name] for name in names}
    without = {f"without {name}": [other for other in names if other != name] for name in names}
    return {**single, "all": names, **without}


def train_and_ask(
    out: Path, encoders: Mapping[str, Mapping[str, str]], data_files: Mapping[str, Path], *, mixer: str, **training: Any
) -> dict[str, Any]:
    """Train one model on some encoders and return its accuracies, what they cost, and the encoders' shares."""
    model = build(
        [{"name": "video", "num_frames": 4}],
        encoders=list(encoders.values()),
        backbone="crema-tiny",
        fusion={"name": "merv", "token_grid": (4, 4), "mixer": mixer},
        tuning="full",
    )
    started = time.monotonic()
    fit(model, data_files["train"], out=out, **{**TRAINING, **training})
    result = evaluate(
        model, read_data_file(data_files["test"], modalities=model.names), batch_size=128, max_new_tokens=3
    )
    named = dict(zip((encoder["name"] for encoder in encoders.values()), encoders, strict=True))
    weights = result.extras.get("encoder_weights", {})  # a mixer without weights has none
    shares = {kind: {named[name]: share for name, share in own.items()} for kind, own in weights.items()}
    return {
        "accuracy": result.accuracy,
        "by_type": result.by_type,
        "gflops": cost_of(model, model.names).total_gflops,
        "connector_parameters": sum(own.numel() for own in model.adapter_parameters("video").values()),
        "shares": shares,
        "minutes": (time.monotonic() - started) / 60,
    }


def main(arguments: list[str] | None = None) -> int:
    """Make what is missing, train, ask and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--out", type=Path, default=Path("runs/merv"))
    parser.add_argument("--encoders", type=Path, default=None, help="of pretrain_encoders; default: trained here")
    parser.add_argument("--train-clips", type=int, default=500)
    parser.add_argument("--test-clips", type=int, default=100)
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--encoder-steps", type=int, default=Schedule().steps)
    parser.add_argument("--mixer", default="cross_attention")
    parser.add_argument("--only", nargs="*", default=None, help="labels of rows")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    place = options.encoders or options.out / "encoders"
    if not place.exists():
        pretrain_encoders(place, schedule=Schedule(steps=options.encoder_steps))
    encoders = encoders_in(place)
    counts = {"train": options.train_clips, "test": options.test_clips}
    data_files = {split: options.out / "world" / split / "data.jsonl" for split in counts}
    for split, count in counts.items():
        if not data_files[split].exists():
            make_moving_world(
                data_files[split].parent, num_clips=count, seed=0, split="train" if split == "train" else "test"
            )
    results = {}
    for label, names in rows_of(list(encoders)).items():
        if options.only and label not in options.only:
            continue
        chosen = {name: encoders[name] for name in names}
        folder = options.out / label.replace(" ", "_")
        results[label] = train_and_ask(folder, chosen, data_files, mixer=options.mixer, epochs=options.epochs)
        print(f"{label}: {results[label]['accuracy']:.1%} after {results[label]['minutes']:.1f} min", flush=True)
    print(table([["encoders", "all", *TYPES, "GFLOPs", "connector"], *map(_cells, results.items())]))
    if "all" in results and results["all"]["shares"]:
        shares = results["all"]["shares"]
        rows = [[kind, *(f"{share:.1%}" for share in own.values())] for kind, own in shares.items()]
        print(table([["mean share", *encoders], *rows]))
    print(json.dumps(results), flush=True)
    return 0


def _cells(row: tuple[str, dict[str, Any]]) -> list[str]:
    label, own = row
    kinds = [f"{own['by_type'][kind]:.1%}" for kind in TYPES]
    return [label, f"{own['accuracy']:.1%}", *kinds, f"{own['gflops']:.3f}", f"{own['connector_parameters']:,}"]


if __name__ == "__main__":
    raise SystemExit(main())
