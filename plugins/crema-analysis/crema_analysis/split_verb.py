"""`crema split`: easy and hard questions by what a reference model answers."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from crema_core.cli.inputs import model_folder, names

HELP = """\
Tell easy questions from hard ones: easy is what a reference model answers right with its major sense alone.

OUT gets easy.jsonl and hard.jsonl, data files with the lines as they are and paths that fit, split.json with the
numbers by type, and the reference's answers. Score other models on both parts (crema eval MODEL OUT/hard.jsonl): a
sense that only repeats what the major one shows helps with neither, one that shows more helps with the hard part.

Example:
  crema split runs/video-only test.jsonl --out parts"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the model, the data and where the parts go."""
    parser.add_argument("model", metavar="MODEL", help="saved model, or run directory of crema fit")
    parser.add_argument("data", metavar="DATA.jsonl", help="questions with answers")
    parser.add_argument("--out", required=True, metavar="OUT", help="folder of the parts")
    parser.add_argument(
        "--modalities", type=names, metavar="A,B", help="what the reference is given; default: its major sense"
    )
    parser.add_argument("--batch-size", type=int, default=32, help="questions per pass")
    parser.add_argument("--max-new-tokens", type=int, default=10, help="longest open-ended answer")
    parser.add_argument("--scorer", metavar="NAME", help="rule for open-ended answers; default: the data set's")
    parser.add_argument("--cache", metavar="DIR", help="folder of kept features")
    parser.add_argument("--backbone", metavar="PLACE", help="where the backbone is now, if it moved")
    parser.add_argument("--language-model", metavar="PLACE", help="where the model's other language model is now")
    parser.add_argument("--device", help="for example cuda")
    parser.add_argument("--resume", action="store_true", help="go on with the answers that OUT already has")
    parser.add_argument("--json", action="store_true", help="print JSON")


def run(arguments: argparse.Namespace) -> int:
    """Load, answer, write both parts."""
    from crema_analysis.difficulty import refuse_own_parts, split_by_difficulty, write_parts
    from crema_core.api.load import load
    from crema_core.common.progress import StatusLine

    out, data = Path(arguments.out), Path(arguments.data)
    refuse_own_parts(out, data)
    model = load(
        model_folder(arguments.model),
        backbone=arguments.backbone,
        language_model=arguments.language_model,
        device=arguments.device,
    )
    status = StatusLine()
    found = split_by_difficulty(
        model,
        data,
        modalities=arguments.modalities,
        batch_size=arguments.batch_size,
        max_new_tokens=arguments.max_new_tokens,
        scorer=arguments.scorer,
        cache=arguments.cache,
        out=out / "answers.jsonl",
        resume=arguments.resume,
        status=status,
    )
    status.done()
    places = write_parts(out, data, found)
    if arguments.json:
        print(json.dumps(found.to_dict() | {"files": [str(place) for place in places]}, indent=2))
    else:
        print(f"{found}\n\n" + "\n".join(map(str, places)))
    return 0
