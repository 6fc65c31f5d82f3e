"""Adaptive early exit on SenseWorld, trained until it over-converges: the counterpart of Table 7 and Figure 2.

Every rule trains the same models on the same clips; validation questions are asked after every epoch, so that it is
known what a modality had learned when it was stopped. A modality counts as stopped at chance when it exits before its
own questions reached, to three points, the accuracy they end with where nothing exits.

First trained runs are printed, then rules replayed on the norms of the runs without exits, which costs nothing: when
each would have stopped which modality. A replay cannot know how the others would have trained on; trained runs do.
Finished runs are kept in OUT; reports with the pictures are `OUT/RULE-SEED/report.html`.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from benchmarks.measure import report
from benchmarks.table_jobs import DEMO, MODALITIES, NAMES, TRAINING
from benchmarks.tables import Scale, without_notices, worlds
from crema_core.api.build import build
from crema_core.common.progress import StatusLine
from crema_core.report.run_report import write_run_report
from crema_core.train.early_exit import EarlyExit, exit_start_epoch
from crema_core.train.fit import fit
from crema_core.train.metrics import Value, read_metrics
from crema_core.train.settings import EARLY_EXIT, TrainSettings, preset_settings
from crema_world.questions import MODALITY_OF_TYPE

Lines = Sequence[Mapping[str, Value]]

RELEASED = {key: value for key, value in preset_settings("released").items() if key.startswith("early_exit")}
# The words of section 3.3; tau, which it leaves open, from released configurations.
PAPER = {
    "early_exit": 1.8,
    "early_exit_metric": "adapter",
    "early_exit_reference": "all",
    "early_exit_start_epoch": 1,
    "early_exit_loss_drop": None,
}
RULES: dict[str, dict[str, Any]] = {
    "off": {},
    "default": {"early_exit": EARLY_EXIT},
    "released": RELEASED,
    "paper": PAPER,
}
REPLAYED = [
    {
        "early_exit": tau,
        "early_exit_reference": reference,
        "early_exit_patience": patience,
        "early_exit_start_epoch": start,
        "early_exit_loss_drop": drop,
    }
    for reference, patience in (("all", 1), ("peak", 3), ("peak", 5))
    for drop in (None, 0.1)
    for start in (1, None)
    for tau in (0.8, 0.85, 0.9, 1.0, 1.4, 1.8)
]


def train(out: Path, rule: str, seed: int, scale: Scale) -> Path:
    """Train with one rule, unless that is done, and return the run directory."""
    run = out / f"{rule}-{seed}"
    done = run / "report.html"
    if not done.exists():
        torch.set_num_threads(1)
        with without_notices():
            records, asked = worlds(out, scale)
            fit(
                build(MODALITIES, backbone=scale.backbone, mmqa=DEMO.mmqa, seed=seed),
                records,
                asked,
                out=run,
                resume=(run / "config.json").exists(),
                status=StatusLine(enabled=False),
                **{**TRAINING, "epochs": scale.epochs, "seed": seed, "load_best": False},
                **{"cache": str((out / "features").absolute()), "eval_batch_size": DEMO.eval_batch_size},
                **{"max_new_tokens": DEMO.max_new_tokens, **RULES[rule]},
            )
        write_run_report(run, title=f"{rule}, seed {seed}")
    return run


def own_accuracy(metrics: Lines, name: str) -> list[float]:
    """Return the accuracy of a modality's own questions after every epoch, in percent."""
    keys = [f"accuracy/{kind}" for kind, modality in MODALITY_OF_TYPE.items() if modality == name]
    asked = [line for line in metrics if line["kind"] == "valid"]
    return [100 * statistics.mean(float(line[key]) for key in keys if key in line) for line in asked]


def learned(metrics: Lines, name: str) -> int:
    """Return the first epoch from which a modality's own questions stay within three points of where they end."""
    accuracy = own_accuracy(metrics, name)
    least = statistics.mean(accuracy[-5:]) - 3
    return max([epoch + 1 for epoch, value in enumerate(accuracy) if value < least], default=0)


def trained_row(metrics: Lines, reference: Lines, *, rule: str, seed: int, epochs: int) -> dict[str, Any]:
    """Return what a run saved, what it ends with and when each modality stopped.

    Args:
        metrics: of the run.
        reference: of the run without exits.
        rule, seed: which one it is.
        epochs: of a run without exits.
    """
    exits = {str(line["modality"]): int(line["epoch"]) for line in metrics if line["kind"] == "exit"}
    made = sum(int(v) for line in metrics for key, v in line.items() if key.startswith("sub_steps/"))
    whole = sum(int(v) for line in reference for key, v in line.items() if key.startswith("sub_steps/"))
    valid = [line for line in metrics if line["kind"] == "valid"]
    early = [name for name, epoch in exits.items() if epoch < learned(reference, name)]
    return {
        "rule": rule,
        "seed": seed,
        "saved %": round(100 * (1 - made / whole), 1),
        "accuracy %": round(100 * float(valid[-1]["accuracy"]), 1),
        **{f"{name} stops": exits.get(name, epochs) for name in NAMES},
        "at chance": " ".join(early),
    }


def replay(metrics: Lines, settings: TrainSettings) -> dict[str, int]:
    """Return the epoch at which a rule stops each modality, given the norms of a run without exits."""
    state = EarlyExit(
        NAMES,
        tau=settings.early_exit,
        start_epoch=exit_start_epoch(settings),
        reference=settings.early_exit_reference,
        patience=settings.early_exit_patience,
        loss_drop=settings.early_exit_loss_drop,
    )
    for line in metrics:
        if line["kind"] == "epoch":
            for name in state.active:
                if f"grad_norm/{name}" in line:
                    state.record(name, float(line[f"grad_norm/{name}"]), float(line[f"loss/{name}"]))
            state.end_epoch(int(line["epoch"]))
    return {name: found.epoch for name, found in state.exits.items()}


def replayed_row(runs: Sequence[Lines], own: Mapping[str, Any], epochs: int) -> dict[str, Any]:
    """Return what a rule would have saved in every run, and whom it would have stopped at chance."""
    settings = TrainSettings(epochs=epochs, **own)
    saved, early = [], 0
    for metrics in runs:
        exits = replay(metrics, settings)
        saved.append(sum(epochs - 1 - epoch for epoch in exits.values()) / (epochs * len(NAMES)))
        early += sum(epoch < learned(metrics, name) for name, epoch in exits.items())
    return {
        "compared with": settings.early_exit_reference,
        "patience": settings.early_exit_patience,
        "loss drop": settings.early_exit_loss_drop,
        "from epoch": exit_start_epoch(settings),
        "tau": settings.early_exit,
        "saved %": " ".join(f"{100 * share:.0f}" for share in saved),
        "stopped at chance": early,
    }


def _train(work: tuple[Path, str, int, Scale]) -> None:
    run = train(*work)
    print(f"  {run.name}", flush=True)


def main(arguments: Sequence[str] | None = None) -> int:
    """Train, replay and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--out", type=Path, default=Path("runs/early_exit"))
    parser.add_argument("--seeds", type=int, default=3, help="trainings with every rule")
    parser.add_argument("--clips", type=int, default=Scale.clips, help="training clips")
    parser.add_argument("--test-clips", type=int, default=Scale.test_clips)
    parser.add_argument("--epochs", type=int, default=30)
    parser.add_argument("--rules", nargs="+", choices=list(RULES), default=list(RULES))
    parser.add_argument("--processes", type=int, default=2, help="trainings at once, each with one thread")
    given = parser.parse_args(arguments)
    scale = Scale(clips=given.clips, test_clips=given.test_clips, epochs=given.epochs)
    rules = list(dict.fromkeys(["off", *given.rules]))
    with without_notices():
        worlds(given.out, scale)
    work = [(given.out, rule, seed, scale) for seed in range(given.seeds) for rule in rules]
    with multiprocessing.get_context("spawn").Pool(given.processes) as pool:
        for _ in pool.imap_unordered(_train, work):
            pass
    found = {(rule, seed): read_metrics(given.out / f"{rule}-{seed}" / "metrics.jsonl") for _, rule, seed, _ in work}
    rows = [
        trained_row(found[rule, seed], found["off", seed], rule=rule, seed=seed, epochs=given.epochs)
        for rule in rules
        for seed in range(given.seeds)
    ]
    facts = {"clips": given.clips, "epochs": given.epochs}
    report("early_exit, trained", rows, **facts)
    # Runs by the paper's words record the norm of the whole adapter; with a tau that high nothing exits in them.
    for measured, rule in (("lora", "off"), ("adapter", "paper")):
        if rule in rules:
            runs = [found[rule, seed] for seed in range(given.seeds)]
            first = [{name: learned(metrics, name) for name in NAMES} for metrics in runs]
            replays = [replayed_row(runs, own, given.epochs) for own in REPLAYED]
            report(f"early_exit, replayed on norms of the {measured}", replays, learned=json.dumps(first))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
