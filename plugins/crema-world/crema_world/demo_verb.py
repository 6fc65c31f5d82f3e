"""`crema demo`: the main job on the generated world."""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import sys
from pathlib import Path

from crema_core.cli.launch import fail, launch, wants_launch
from crema_world.demo_folder import refuse_foreign

FINDINGS = 3

HELP = """\
Train one model on all modalities of the generated world and ask it about clips it has never seen.

Makes the clips, builds a model on the embedded backbone, trains it modality by modality, evaluates
growing sets of modalities and one modality exchanged between clips, and writes a report. Exit code 3: an accuracy was
not as it should be; the output states which.

Example:
  crema demo --out runs/demo"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add where to write and how much."""
    parser.add_argument("--out", default="runs/demo", metavar="OUT", help="default: runs/demo; an old demo is replaced")
    parser.add_argument("--clips", type=int, metavar="N", help="clips to train on; fewer are quicker and less accurate")
    parser.add_argument("--seed", type=int, metavar="S", help="of the world, the model and the training")
    parser.add_argument("--backbone", metavar="PLACE", help="default: crema-tiny, which the package contains")
    parser.add_argument(
        "--processes",
        type=int,
        metavar="N",
        help="processes that share the work; default: 2 where there are two CPU cores and no GPU, else 1",
    )
    parser.add_argument("--json", action="store_true", help="print the results as JSON")


def run(arguments: argparse.Namespace) -> int:
    """Run the demo; the table goes to standard output, everything else to standard error."""
    refuse_foreign(Path(arguments.out))
    if arguments.processes is None:
        arguments.processes = usual_processes()
    if wants_launch(arguments):
        return launch(arguments.words, arguments.processes)
    from crema_core.train.distributed import join_processes, leave_processes
    from crema_world.demo import DemoSettings, run_demo

    settings = DemoSettings()
    changes = {"seed": arguments.seed, "backbone": arguments.backbone}
    if arguments.clips is not None:
        share = settings.test_clips / settings.train_clips
        changes |= {"train_clips": arguments.clips, "test_clips": max(2, round(arguments.clips * share))}
    settings = dataclasses.replace(settings, **{key: value for key, value in changes.items() if value is not None})
    out = Path(arguments.out)
    try:
        processes = join_processes()
        result = run_demo(out, settings, say=lambda text: print(text, file=sys.stderr, flush=True), processes=processes)
    except KeyboardInterrupt as stop:
        stop.add_note("run the demo again to start anew.")
        raise
    leave_processes()
    if processes.is_main and arguments.json:
        print(json.dumps(result.to_dict(), indent=2))
    elif processes.is_main:
        total = sum(result.seconds.values())
        print(f"{result}\n\n{total:.0f} s in total. Report: {out / 'report.html'}  Model: {out / 'model'}")
    return fail("an accuracy is not as it should be; the output states which.", FINDINGS) if result.missed else 0


def usual_processes() -> int:
    """Two where that is faster: small matrices keep two cores busier in two processes than in one of two threads."""
    import torch

    inside_a_launch = int(os.environ.get("WORLD_SIZE", "1")) > 1
    if inside_a_launch or torch.accelerator.is_available():
        return 1
    return min(2, len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1)
