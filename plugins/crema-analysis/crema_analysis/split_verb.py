"""`crema split`: easy and hard questions by what a reference model answers."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from crema_core.cli.inputs import add_evaluation, add_on_error, add_saved_model, evaluation_settings, load_saved, names

HELP = """\
Tell easy questions from hard ones: easy is what a reference model answers right with its major modality alone.

OUT gets easy.jsonl and hard.jsonl, data files with the lines as they are and paths that fit, split.json with the
numbers by type, and the reference's answers. Score other models on both parts (crema eval MODEL OUT/hard.jsonl): a
modality that only repeats what the major one shows helps with neither, one that shows more helps with the hard part.

Example:
  crema split runs/video-only test.jsonl --out parts"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the model, the data and where the parts go."""
    add_saved_model(parser)
    parser.add_argument("data", metavar="DATA.jsonl", help="questions with answers")
    parser.add_argument("--out", required=True, metavar="OUT", help="folder of the parts")
    parser.add_argument(
        "--modalities", type=names, metavar="A,B", help="what the reference is given; default: its major modality"
    )
    add_on_error(parser)
    add_evaluation(parser, "batch_size", "max_new_tokens", "scorer")
    parser.add_argument("--cache", metavar="DIR", help="folder of kept features")
    parser.add_argument("--resume", action="store_true", help="continue with the answers that OUT already has")
    parser.add_argument("--json", action="store_true", help="print JSON")


def run(arguments: argparse.Namespace) -> int:
    """Load, answer, write both parts."""
    from crema_analysis.difficulty import refuse_own_parts, split_by_difficulty, write_parts
    from crema_core.common.progress import StatusLine

    out, data = Path(arguments.out), Path(arguments.data)
    refuse_own_parts(out, data)
    settings = evaluation_settings(
        arguments, modalities=arguments.modalities, out=out / "answers.jsonl", resume=arguments.resume
    )
    model = load_saved(arguments)
    status = StatusLine()
    found = split_by_difficulty(model, data, settings, cache=arguments.cache, status=status)
    status.done()
    places = write_parts(out, data, found)
    if arguments.json:
        print(json.dumps(found.to_dict() | {"files": [str(place) for place in places]}, indent=2))
    else:
        print(f"{found}\n\n" + "\n".join(map(str, places)))
    return 0
