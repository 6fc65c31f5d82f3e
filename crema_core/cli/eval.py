"""`crema eval`: score a saved model on a data file."""

from __future__ import annotations

import argparse
import dataclasses
import json
from typing import TYPE_CHECKING

from crema_core.cli.inputs import model_folder, names
from crema_core.cli.launch import add_processes, launch, wants_launch
from crema_core.cli.tables import table

if TYPE_CHECKING:
    from crema_core.evaluation.run import EvaluationResult

HELP = """\
Score a saved model on a data file, with all of its senses or some.

Open-ended answers must equal the expected text after normalisation; of several choices the best-scored one counts.
--shuffle SENSE gives every question another clip's source of that sense: accuracy that stays came from elsewhere.

Example:
  crema eval runs/second test.jsonl --modalities video,audio --out answers.jsonl"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the model, the data and what takes part."""
    parser.add_argument("model", metavar="MODEL", help="saved model, or run directory of crema fit")
    parser.add_argument("data", metavar="DATA.jsonl", help="questions with answers")
    parser.add_argument("--modalities", type=names, metavar="A,B", help="senses that take part; '' for none")
    parser.add_argument("--shuffle", metavar="SENSE", help="exchange this sense's sources between samples")
    parser.add_argument("--seed", type=int, default=0, help="of --shuffle")
    parser.add_argument("--batch-size", type=int, default=32, help="questions per pass")
    parser.add_argument("--max-new-tokens", type=int, default=10, help="longest open-ended answer")
    parser.add_argument("--num-beams", type=int, default=1, help="beams of the search for open-ended answers")
    parser.add_argument("--backbone", metavar="PLACE", help="where the backbone is now, if it moved")
    parser.add_argument("--device", help="for example cuda; several processes choose their own")
    add_processes(parser)
    parser.add_argument("--out", metavar="FILE.jsonl", help="write every answer, one JSON object per line")
    parser.add_argument("--json", action="store_true", help="print JSON")


def run(arguments: argparse.Namespace) -> int:
    """Load, evaluate, print."""
    if wants_launch(arguments):
        return launch(arguments.words, arguments.processes)
    from crema_core.evaluation.run import evaluate
    from crema_core.io.bundle import load
    from crema_core.train.progress import StatusLine
    from crema_core.train.sync import join_processes, leave_processes, own_device

    processes = join_processes()
    device = own_device() if processes.count > 1 else arguments.device
    model = load(model_folder(arguments.model), backbone=arguments.backbone, device=device)
    status = StatusLine(enabled=processes.is_main)
    result = evaluate(
        model,
        arguments.data,
        modalities=arguments.modalities,
        shuffle=arguments.shuffle,
        seed=arguments.seed,
        batch_size=arguments.batch_size,
        max_new_tokens=arguments.max_new_tokens,
        num_beams=arguments.num_beams,
        out=arguments.out,
        status=status,
        processes=processes,
    )
    status.done()
    leave_processes()
    if processes.is_main:
        print(json.dumps(dataclasses.asdict(result), indent=2) if arguments.json else _page(result))
    return 0


def _page(result: EvaluationResult) -> str:
    rows = [["questions", "number", "accuracy"]]
    rows += [[kind, f"{result.counts[kind]:,}", f"{result.by_type[kind]:.1%}"] for kind in result.by_type]
    rows.append(["all", f"{result.num_samples:,}", f"{result.accuracy:.1%}"])
    shuffled = f", {result.shuffled} exchanged between samples" if result.shuffled else ""
    return (
        f"senses: {', '.join(result.senses) or 'none'}{shuffled}\n\n{table(rows)}\n\n"
        f"{result.tokens_per_answer:.0f} tokens into the language model per answer, {result.duration_s:.1f} s"
    )
