"""`crema ablate`: which modality of a saved model matters for which questions."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING

from crema_core.cli.inputs import (
    add_evaluation,
    add_on_error,
    add_saved_model,
    evaluation_settings,
    load_saved,
    model_folder,
    names,
)
from crema_core.errors import OptionsError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from crema_analysis.ablation import What
    from crema_core.evaluation.settings import EvaluationSettings

HELP = """\
Ask a saved model the same questions with all modalities and with less, and say which modality matters for which
questions.

Comparisons of --what; all of them by default:
  leave-one-out  every modality left out once
  growing        the question alone, then one modality more at a time (--order)
  shuffled       every modality taken from another clip once; the number of tokens stays
Every variant answers the same questions, so losses have intervals of pairs: Bonett and Price's at
95%, in which questions about one clip count as a cluster.
A comparison that the data do not allow is left out and named: a modality of another clip needs two clips.
With --out, the folder gets ablation.html with heat maps, ablation.json, two pictures and all answers; an interrupted
ablation continues with --resume.

Example:
  crema ablate runs/second test.jsonl --out runs/second/ablation
  crema ablate runs/second test.jsonl --what growing --order video,depth,audio"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the model, the data and the comparisons."""
    add_saved_model(parser)
    parser.add_argument("data", metavar="DATA.jsonl", help="questions with answers")
    parser.add_argument("--what", type=names, metavar="A,B", help="comparisons; default: all three")
    parser.add_argument("--order", type=names, metavar="A,B", help="modalities in the order of growing sets")
    add_on_error(parser)
    add_evaluation(parser, "batch_size", "max_new_tokens", "num_beams", "seed", "scorer", "prompts", "fusion")
    parser.add_argument("--cache", metavar="DIR", help="folder of kept features; default: in memory")
    parser.add_argument("--out", metavar="DIR", help="folder for the report and the answers")
    parser.add_argument("--resume", action="store_true", help="continue with the answers that --out already has")
    parser.add_argument("--json", action="store_true", help="print JSON")


def run(arguments: argparse.Namespace) -> int:
    """Load, ask, print and write."""
    from crema_analysis.ablation import WHATS, ablate
    from crema_analysis.ablation_report import write_ablation
    from crema_core.common.progress import StatusLine

    if arguments.resume and not arguments.out:
        raise OptionsError("--resume without --out. Answers are taken up from a folder. Add --out DIR.")
    out = None if arguments.out is None else Path(arguments.out)
    answers = None if out is None else out / "answers"
    settings = evaluation_settings(arguments, out=answers, resume=arguments.resume)
    _check(arguments, settings, WHATS if arguments.what is None else arguments.what)
    model = load_saved(arguments)
    status = StatusLine()
    ablation = ablate(
        model,
        arguments.data,
        settings,
        what=WHATS if arguments.what is None else arguments.what,
        order=arguments.order,
        cache=arguments.cache,
        status=status,
    )
    status.done()
    report = None if out is None else write_ablation(out, ablation)
    if arguments.json:
        print(json.dumps(ablation.to_dict(), indent=2))
        return 0
    print(ablation)
    if report is not None:
        print(f"\nreport: {report}")
    return 0


def _check(arguments: argparse.Namespace, settings: EvaluationSettings, what: Sequence[What]) -> None:
    """Refuse what the data and the names of the modalities tell, before the model is loaded."""
    from crema_analysis.ablation import plan_comparisons
    from crema_core.data.data_file import read_samples
    from crema_core.data.unusable import settle
    from crema_core.saving.bundle import read_model_config

    config = read_model_config(model_folder(arguments.model))
    known = [own["name"] for own in config["modalities"] if own["name"] not in arguments.without]
    samples = read_samples(arguments.data, modalities=known)
    settle([samples], on_error=settings.on_error, max_skipped=settings.max_skipped)
    found = [name for name in known if any(name in record.sources for record in samples.usable)]
    plan_comparisons(found, samples.usable, what=what, order=arguments.order)
