"""`crema plan`: estimate the memory of a training step before anything large is loaded."""

from __future__ import annotations

import argparse
import json

from crema_core.cli.inputs import PRESET_HELP, assignments, names, with_options
from crema_core.train.settings import train_settings

HELP = """\
Estimate the peak memory of a training step, by component.

The backbone may be one of shapes alone (blip2-flan-t5-xl, blip2-flan-t5-xxl, blip2-opt-2.7b, blip2-opt-6.7b, with a
fusion of visual tokens qwen2.5-vl-3b and others), so nothing needs to be downloaded. Settings are those of crema fit;
with --processes the minibatch is shared by them.

Example:
  crema plan --modalities video,audio --backbone blip2-flan-t5-xl --precision bf16 --set batch_size=4
  crema plan --modalities video --set gradient_checkpointing=true --json"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the model to build and the settings."""
    parser.add_argument("--modalities", type=names, required=True, metavar="A,B", help="modalities of the model")
    parser.add_argument("--backbone", default="crema-tiny", metavar="PLACE", help="folder, hub id or shapes")
    parser.add_argument("--image-size", type=int, metavar="PIXELS", help="side of square pictures, for Qwen-VL")
    parser.add_argument("--fusion", default="self_gated", metavar="NAME", help="fusion strategy")
    parser.add_argument("--precision", default="fp32", metavar="NAME", help="of the frozen parts: fp32 or bf16")
    parser.add_argument("--preset", metavar="NAME", help=PRESET_HELP)
    parser.add_argument("--processes", type=int, default=1, metavar="N", help="processes that share a minibatch")
    parser.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", help="a training setting, or an option of a modality"
    )
    parser.add_argument("--json", action="store_true", help="print JSON")


def run(arguments: argparse.Namespace) -> int:
    """Build, estimate, print."""
    given = assignments(arguments.set)
    settings = train_settings(arguments.preset, {key: value for key, value in given.items() if "." not in key})
    requests = with_options(arguments.modalities, {key: value for key, value in given.items() if "." in key})
    from crema_core.api.build import build
    from crema_core.report.plan import plan

    model = build(
        requests,
        backbone=arguments.backbone,
        fusion=arguments.fusion,
        precision=arguments.precision,
        image_size=arguments.image_size,
    )
    found = plan(
        model,
        batch_size=-(-settings.batch_size // max(1, arguments.processes)),
        joint=settings.mode == "joint",
        gradient_checkpointing=settings.gradient_checkpointing,
        micro_batch_size=settings.micro_batch_size,
        retained_graphs=settings.retained_graphs,
    )
    print(json.dumps(found.to_dict(), indent=2) if arguments.json else found)
    return 0
