"""`crema sweep`: one choice, several values, several seeds."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from crema_core.cli.fit_config import complete, read_config
from crema_core.cli.inputs import (
    PRESET_HELP,
    add_evaluation,
    assignments,
    evaluation_settings,
    names,
    with_options,
    yaml_value,
)
from crema_core.train.settings import preset_settings

HELP = """\
Train one small model for each value of a choice and each seed, evaluate all on the same questions, and compare.

Choices of --over, with the table of the CREMA paper that compares them:
  fusion        Table 8   self_gated, concat, linear, cross_attention, mixture; individual_qformers is the baseline
  major         Table 20  the modality on whose frames the others are fused
  num_queries   Table 22  learnable queries of each modality
  lora_rank     Table 19  rank of each modality's LoRA; 0: none
  connector     Table 21  auto (FC where widths differ), interpolate (no parameters), always
  output_start  -         weights of supporting modalities' output projections at the start: copied, fresh, zero
  mode          Table 17  sequential, joint
  early_exit    Table 7   none, or the factor tau of the exit rule
The rest of the configuration is that of crema fit, from a YAML file or by options, and equal for all rows. Finished
cells are kept: the same command continues where it was interrupted, and more values or seeds may be added to it later.
Frozen encoders run once; all cells share the features in OUT/features (--set cache=memory keeps none).

Example:
  crema sweep train.jsonl --test test.jsonl --over lora_rank --values 16,64 --preset tiny --out runs/ranks
  crema sweep config.yaml --test test.jsonl --over fusion --seeds 3 --out runs/fusions"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the data, the choice and what is equal between the rows."""
    parser.add_argument("source", metavar="CONFIG.yaml|TRAIN.jsonl", help="a configuration, or the training data")
    parser.add_argument("--test", required=True, metavar="TEST.jsonl", help="questions every model is asked")
    parser.add_argument("--over", required=True, metavar="CHOICE", help="what differs between the rows")
    parser.add_argument("--values", type=names, metavar="A,B", help="its values; default: the usual ones")
    parser.add_argument("--seeds", type=int, default=3, metavar="N", help="trainings of each value; default: 3")
    parser.add_argument("--out", required=True, metavar="OUT", help="folder of the table, new or to continue")
    parser.add_argument(
        "--modalities", type=names, metavar="A,B", help="modalities in order; default: those in the data"
    )
    parser.add_argument("--backbone", metavar="PLACE", help="default: crema-tiny")
    parser.add_argument("--fusion", metavar="NAME", help="fusion strategy; default: self_gated")
    parser.add_argument("--major", metavar="MODALITY", help="modality on whose frames the others are fused")
    parser.add_argument("--preset", metavar="NAME", help=PRESET_HELP)
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="as for crema fit")
    add_evaluation(parser, "batch_size", "max_new_tokens")
    parser.add_argument("--json", action="store_true", help="print JSON")


def run(arguments: argparse.Namespace) -> int:
    """Check, train what is missing, print and write."""
    given = assignments(arguments.set)
    settings = {key: value for key, value in given.items() if "." not in key}
    changes = {key: getattr(arguments, key) for key in ("modalities", "backbone", "fusion", "major", "preset")}
    config = complete(read_config(arguments.source, changes, settings))
    requests = with_options(config.modalities or (), {key: value for key, value in given.items() if "." in key})

    evaluation = evaluation_settings(arguments)

    from crema_analysis.sweep import sweep
    from crema_analysis.sweep_report import write_trained_tables
    from crema_core.common.progress import StatusLine

    status = StatusLine()
    try:
        found = sweep(
            config.data,
            arguments.test,
            modalities=requests,
            over=arguments.over,
            values=None if arguments.values is None else [_value(text) for text in arguments.values],
            seeds=range(arguments.seeds),
            out=arguments.out,
            model=config.model(),
            settings={**preset_settings(config.preset), **config.settings},
            evaluation=evaluation,
            status=status,
        )
    except KeyboardInterrupt as stop:
        stop.add_note("finished cells are kept. The same command continues.")
        raise
    status.done()
    lead = f"Modalities: {', '.join(_name(item) for item in requests)}. Trained on {Path(config.data).name}."
    place = write_trained_tables(
        Path(arguments.out), [found], name="sweep", title=f"Sweep over {arguments.over}", lead=lead
    )
    if arguments.json:
        print(json.dumps(found.to_dict(), indent=2))
    else:
        print(f"{found}\n\nreport: {place}")
    return 0


def _value(text: str) -> Any:
    return None if text in ("none", "null") else yaml_value(text)


def _name(item: Any) -> str:
    return str(item["name"] if isinstance(item, dict) else item)
