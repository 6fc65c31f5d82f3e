"""`crema plan`: estimate the memory of a training step before anything large is loaded."""

from __future__ import annotations

import argparse

from crema_core.cli.inputs import add_shared, assignments, given, help_text, print_result, with_options
from crema_core.train.settings import train_settings

HELP = help_text("plan")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the model to build and the settings."""
    add_shared(parser, "modalities", required=True, help="modalities of the model")
    add_shared(parser, "backbone", default="crema-tiny", help="folder, hub id or shapes; default: crema-tiny")
    add_shared(parser, "qformer", "image-size")
    add_shared(parser, "fusion", default="self_gated")
    parser.add_argument("--precision", default="fp32", metavar="NAME", help="of the frozen parts: fp32 or bf16")
    add_shared(parser, "preset")
    parser.add_argument("--processes", type=int, default=1, metavar="N", help="processes that share a minibatch")
    add_shared(parser, "set", metavar="KEY=VALUE", help="a training setting, or an option of a modality")
    add_shared(parser, "json")


def run(arguments: argparse.Namespace) -> int:
    """Build, estimate, print."""
    values = assignments(arguments.set)
    settings = train_settings(arguments.preset, {key: value for key, value in values.items() if "." not in key})
    requests = with_options(arguments.modalities, {key: value for key, value in values.items() if "." in key})
    from crema_core.api.build import build
    from crema_core.report.plan import plan

    model = build(requests, **given(arguments, "backbone", "qformer", "fusion", "precision", "image_size"))
    found = plan(
        model,
        batch_size=-(-settings.batch_size // max(1, arguments.processes)),
        joint=settings.mode == "joint",
        gradient_checkpointing=settings.gradient_checkpointing,
        micro_batch_size=settings.micro_batch_size,
        retained_graphs=settings.retained_graphs,
    )
    print_result(found.to_dict(), found, as_json=arguments.json)
    return 0
