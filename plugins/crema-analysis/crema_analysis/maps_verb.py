"""`crema maps`: where a saved model looks, for single questions of a data file."""

from __future__ import annotations

import argparse
import json
import re
from pathlib import Path
from typing import TYPE_CHECKING

from crema_core.cli.inputs import add_saved_model, load_saved
from crema_core.errors import OptionsError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from crema_core.data.data_file import Record

HELP = """\
Draw, for questions of a data file, where each modality's queries look and how far the fusion's gate opens.

LINE is DATA.jsonl:NUMBER, lines counted from 1. OUT gets maps.html, maps.json and a folder of pictures per line: the
Q-Former's cross-attention of every modality drawn over the frames it reads (over its feature tokens where there are
none), and the self-gated fusion's gate per frame. With PAVE: which steps and places of the other modalities each frame
of the clip reads, and where in the frames something is added. Looking changes no number of the model.

Example:
  crema maps runs/second test.jsonl:1 test.jsonl:17 --out runs/second/maps"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the model, the questions and where the pictures go."""
    add_saved_model(parser)
    parser.add_argument("lines", nargs="+", metavar="LINE", help="DATA.jsonl:NUMBER")
    parser.add_argument("--layer", type=int, metavar="N", help="one cross-attention layer, from 0; default: their mean")
    parser.add_argument("--out", default="maps", metavar="OUT", help="folder; default: maps in this folder")


def run(arguments: argparse.Namespace) -> int:
    """Find the lines, load, look, write."""
    wanted = [_place(text) for text in arguments.lines]

    from crema_analysis.maps import attention_maps, require_layer
    from crema_analysis.maps_report import maps_section
    from crema_core.common.atomic import write_text
    from crema_core.data.data_file import read_samples
    from crema_core.report.html import page

    model = load_saved(arguments)
    require_layer(model, arguments.layer)
    # Only the files of the lines that are named matter, and reading them says what is wrong with them.
    files = {
        data: read_samples(data, modalities=model.names, specs=model.specs).records
        for data in dict.fromkeys(data for data, _ in wanted)
    }
    records = [_record(files[data], data, number) for data, number in wanted]
    out, sections, numbers = Path(arguments.out), [], []
    for (data, number), record in zip(wanted, records, strict=True):
        found = attention_maps(model, record.question, record.sources, choices=record.choices)
        title = f"{data.name}:{number}"
        sections.append(maps_section(title, found, out / f"{data.stem}-{number}", layer=arguments.layer))
        numbers.append({"line": title, "expected": record.answer, **found.to_dict()})
        print(f"{title}  {found.question}  {found.answer}")
    write_text(out / "maps.json", json.dumps(numbers, indent=2) + "\n")
    lead = f"Modalities: {', '.join(model.names)}; fusion: {model.config['fusion']['name']}."
    write_text(out / "maps.html", page("Where the model looks", lead, sections))
    print(f"report: {out / 'maps.html'}")
    return 0


def _place(text: str) -> tuple[Path, int]:
    found = re.fullmatch(r"(.+):([1-9]\d*)", text)
    if found is None:
        raise OptionsError(
            f"'{text}' names no line. Accepted: a data file, a colon and the number of a line, from 1. Write "
            "test.jsonl:1, for example."
        )
    return Path(found[1]), int(found[2])


def _record(records: Sequence[Record], data: Path, number: int) -> Record:
    for record in records:
        if record.line == number:
            return record
    raise OptionsError(
        f"'{data.name}' has no question in line {number}. It has {len(records):,}, in lines {records[0].line} to "
        f"{records[-1].line}. Name one of these."
    )
