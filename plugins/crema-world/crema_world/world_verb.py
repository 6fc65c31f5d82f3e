"""`crema world`: make clips of the generated multi-sensory world."""

from __future__ import annotations

import argparse
import dataclasses
import json
from pathlib import Path
from typing import TYPE_CHECKING

from crema_core.common.tables import table

if TYPE_CHECKING:
    from crema_world import WorldSummary

HELP = """\
Make clips of the generated world: media files of all its modalities and questions about them.

The same arguments make the same scenes. Splits share no scene. OUT/data.jsonl is a data file for crema fit.

Example:
  crema world make worlds/train --clips 500 --seed 0 --split train"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the one action and its options."""
    actions = parser.add_subparsers(dest="action", required=True, metavar="{make}")
    make = actions.add_parser("make", help="write clips and questions into a new folder")
    make.add_argument("out", metavar="OUT", help="a new or empty folder")
    make.add_argument("--clips", type=int, required=True, metavar="N", help="clips, each with one question per type")
    make.add_argument("--seed", type=int, default=0, metavar="S", help="default: 0")
    make.add_argument("--split", default="train", metavar="SPLIT", help="train, valid or test; default: train")
    make.add_argument("--processes", type=int, default=1, metavar="N", help="processes that write; default: 1")
    make.add_argument("--json", action="store_true", help="print JSON")


def run(arguments: argparse.Namespace) -> int:
    """Write the world and say what is in it."""
    from crema_world import make_world

    summary = make_world(
        Path(arguments.out),
        num_clips=arguments.clips,
        seed=arguments.seed,
        split=arguments.split,
        processes=arguments.processes,
    )
    if arguments.json:
        print(json.dumps(dataclasses.asdict(summary), indent=2, default=str))
    else:
        print(_page(summary))
    return 0


def _page(summary: WorldSummary) -> str:
    rows = [["type", "questions", "majority"]]
    rows += [[kind, f"{count:,}", f"{summary.majority[kind]:.1%}"] for kind, count in summary.counts.items()]
    return (
        f"{summary.num_clips:,} clips, {summary.num_questions:,} questions: {summary.data_file}\n\n{table(rows)}\n\n"
        "majority: accuracy of the most frequent answer to each question's text, without looking at a clip"
    )
