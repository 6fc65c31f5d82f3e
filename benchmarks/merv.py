"""MERV's comparisons on SenseWorld: which encoder gives what, and what projectors and mixers do.

Three small encoders that know different things (`crema_world.pretrain_encoders`) see clips of rooms in which
things have colours and shapes, walls a surface, and one thing moves (`crema_world.moving`). Every row is a model
of its own, trained as MERV's frozen recipe trains: projectors, mixer and the language model at once.

    python -m benchmarks.merv                        # each encoder alone, all, all but one (MERV, Figure 4)
    python -m benchmarks.merv --table projectors     # all encoders, one projector after another
    python -m benchmarks.merv --table mixers         # all encoders, one mixer after another

Prints mean and standard deviation over seeds, the mean share of each encoder by question type in the model of all, and
one line of JSON. Finished rows are kept in OUT, so an interrupted run continues; rows of several tables that are the
same training are trained once.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch

from crema_core.api.build import build
from crema_core.api.describe import cost_of
from crema_core.common.atomic import write_text
from crema_core.common.tables import table
from crema_core.data.data_file import read_data_file
from crema_core.evaluation.run import evaluate
from crema_core.train.fit import fit
from crema_world.moving import TYPES, make_moving_world
from crema_world.pretrain_encoders import Schedule, encoders_in, pretrain_encoders

TRAINING: dict[str, Any] = {
    "mode": "joint", "batch_size": 32, "lr": 1e-3, "weight_decay": 0.01, "warmup_ratio": 0.06, "max_grad_norm": 1.0,
}  # fmt: skip


PROJECTORS = ("average", "average_3d", "attentive", "conv", "conv_3d")
ONE_TOKEN = "one token"
"""What is asked in the place of a class token, which the small encoders have not: the average of all tokens."""
MIXERS = ("cross_attention", "channel", "scalar", "concat", "average")


class Row(NamedTuple):
    """One model, whatever the seed."""

    encoders: tuple[str, ...]
    projector: str = "average"
    mixer: str = "cross_attention"
    token_grid: tuple[int, int] = (4, 4)

    @property
    def cell(self) -> str:
        """Name of its file, the same in every table."""
        grid = () if self.token_grid == (4, 4) else ("x".join(map(str, self.token_grid)),)
        return "-".join((*self.encoders, self.projector, self.mixer, *grid))


def rows_of(table: str, names: Sequence[str]) -> dict[str, Row]:
    """Return the rows of a table by their labels."""
    whole = tuple(names)
    if table == "projectors":
        return {ONE_TOKEN: Row(whole, token_grid=(1, 1))} | {own: Row(whole, projector=own) for own in PROJECTORS}
    if table == "mixers":
        return {mixer: Row(whole, mixer=mixer) for mixer in MIXERS}
    single = {f"{name} alone": Row((name,)) for name in names}
    without = {f"without {name}": Row(tuple(other for other in names if other != name)) for name in names}
    return {**single, "all": Row(whole), **without}


def train_and_ask(
    out: Path,
    row: Row,
    encoders: Mapping[str, Mapping[str, str]],
    data_files: Mapping[str, Path],
    *,
    seed: int,
    epochs: int,
) -> dict[str, Any]:
    """Train one model on some encoders and return its accuracies, what they cost, and the encoders' shares."""
    chosen = {name: encoders[name] for name in row.encoders}
    model = build(
        [{"name": "video", "num_frames": 4}],
        encoders=list(chosen.values()),
        backbone="crema-tiny",
        fusion={"name": "merv", "token_grid": row.token_grid, "projector": row.projector, "mixer": row.mixer},
        tuning="full",
        seed=seed,
    )
    started = time.monotonic()
    fit(
        model, data_files["train"], out=out, resume=(out / "config.json").exists(), **TRAINING, epochs=epochs, seed=seed
    )
    result = evaluate(
        model, read_data_file(data_files["test"], modalities=model.names), batch_size=128, max_new_tokens=3
    )
    named = dict(zip((encoder["name"] for encoder in chosen.values()), chosen, strict=True))
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
    parser.add_argument("--table", choices=("encoders", "projectors", "mixers"), default="encoders")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
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
    rows = rows_of(options.table, list(encoders))
    results: dict[str, list[dict[str, Any]]] = {}
    for label, row in rows.items():
        for seed in options.seeds if not options.only or label in options.only else ():
            kept = options.out / "cells" / f"{row.cell}.seed-{seed}.json"
            if not kept.exists():
                run = options.out / "runs" / kept.stem
                found = train_and_ask(run, row, encoders, data_files, seed=seed, epochs=options.epochs)
                write_text(kept, json.dumps(found))
            results.setdefault(label, []).append(json.loads(kept.read_text(encoding="utf-8")))
            own = results[label][-1]
            print(f"{label}, seed {seed}: {own['accuracy']:.1%} after {own['minutes']:.1f} min", flush=True)
    print(table([[options.table, "all", *TYPES, "GFLOPs", "connector"], *map(_cells, results.items())]))
    if "all" in results:
        shares = results["all"][0]["shares"]
        print(table([["mean share", *encoders], *([kind, *_shares(results["all"], kind)] for kind in shares)]))
    print(json.dumps(results), flush=True)
    return 0


def _cells(row: tuple[str, list[dict[str, Any]]]) -> list[str]:
    label, found = row
    columns = [[own["accuracy"] for own in found], *([own["by_type"][kind] for own in found] for kind in TYPES)]
    return [label, *map(spread, columns), f"{found[0]['gflops']:.3f}", f"{found[0]['connector_parameters']:,}"]


def _shares(found: Sequence[Mapping[str, Any]], kind: str) -> list[str]:
    return [spread([own["shares"][kind][name] for own in found]) for name in found[0]["shares"][kind]]


def spread(values: Sequence[float]) -> str:
    """Return mean and standard deviation of shares 0..1, in percent; of one value, that value."""
    deviation = f" ± {100 * statistics.stdev(values):.1f}" if len(values) > 1 else ""
    return f"{100 * statistics.mean(values):.1f}{deviation}"


if __name__ == "__main__":
    raise SystemExit(main())
