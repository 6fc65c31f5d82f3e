"""`crema ablate`: which sense of a saved model matters for which questions."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from crema_core.cli.inputs import model_folder, names
from crema_core.errors import OptionsError

HELP = """\
Ask a saved model the same questions with all senses and with less, and say which sense matters for which questions.

Comparisons of --what; all of them by default:
  leave-one-out  every sense left out once
  growing        the question alone, then one sense more at a time (--order)
  shuffled       every sense taken from another clip once; the number of tokens stays
Every variant answers the same questions, so losses have paired intervals: 95% of 1,000 bootstrap draws of clips.
With --out, the folder gets ablation.html with heat maps, ablation.json, two pictures and all answers; an interrupted
ablation goes on with --resume.

Example:
  crema ablate runs/second test.jsonl --out runs/second/ablation
  crema ablate runs/second test.jsonl --what growing --order video,depth,audio"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the model, the data and the comparisons."""
    parser.add_argument("model", metavar="MODEL", help="saved model, or run directory of crema fit")
    parser.add_argument("data", metavar="DATA.jsonl", help="questions with answers")
    parser.add_argument("--what", type=names, metavar="A,B", help="comparisons; default: all three")
    parser.add_argument("--order", type=names, metavar="A,B", help="senses in the order of growing sets")
    parser.add_argument("--batch-size", type=int, default=32, help="questions per pass")
    parser.add_argument("--max-new-tokens", type=int, default=10, help="longest open-ended answer")
    parser.add_argument("--num-beams", type=int, default=1, help="beams of the search for open-ended answers")
    parser.add_argument("--seed", type=int, default=0, help="of exchanged sources and of the draws")
    parser.add_argument("--scorer", metavar="NAME", help="rule for open-ended answers; default: the data set's")
    parser.add_argument("--prompts", choices=("model", "dataset"), default="model", help="whose wording of questions")
    parser.add_argument("--concat", action="store_true", help="bypass the fusion")
    parser.add_argument("--cache", metavar="DIR", help="folder of kept features; default: in memory")
    parser.add_argument("--backbone", metavar="PLACE", help="where the backbone is now, if it moved")
    parser.add_argument("--language-model", metavar="PLACE", help="where the model's other language model is now")
    parser.add_argument("--device", help="for example cuda")
    parser.add_argument("--out", metavar="DIR", help="folder for the report and the answers")
    parser.add_argument("--resume", action="store_true", help="go on with the answers that --out already has")
    parser.add_argument("--json", action="store_true", help="print JSON")


def run(arguments: argparse.Namespace) -> int:
    """Load, ask, print and write."""
    from crema_analysis.ablation import WHATS, ablate
    from crema_analysis.ablation_report import write_ablation
    from crema_core.api.load import load
    from crema_core.common.progress import StatusLine

    if arguments.resume and not arguments.out:
        raise OptionsError("--resume without --out. Answers are taken up from a folder. Add --out DIR.")
    model = load(
        model_folder(arguments.model),
        backbone=arguments.backbone,
        language_model=arguments.language_model,
        device=arguments.device,
    )
    out = None if arguments.out is None else Path(arguments.out)
    status = StatusLine()
    ablation = ablate(
        model,
        arguments.data,
        what=WHATS if arguments.what is None else arguments.what,
        order=arguments.order,
        batch_size=arguments.batch_size,
        max_new_tokens=arguments.max_new_tokens,
        num_beams=arguments.num_beams,
        seed=arguments.seed,
        scorer=arguments.scorer,
        prompts=arguments.prompts,
        fusion="concat" if arguments.concat else "model",
        cache=arguments.cache,
        out=None if out is None else out / "answers",
        resume=arguments.resume,
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
