"""`crema describe`: parameters, memory and cost of a model by component."""

from __future__ import annotations

import argparse
import sys

from crema_core.cli.inputs import add_shared, assignments, given, help_text, model_folder, print_result, with_options
from crema_core.errors import OptionsError

USAGE = 2

HELP = help_text("describe")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add a saved model, or what to build."""
    parser.add_argument("model", nargs="?", metavar="MODEL", help="saved model, or run directory of crema fit")
    add_shared(parser, "modalities", help="modalities of a model to build")
    add_shared(parser, "backbone", "qformer", "language-model", "image-size")
    add_shared(parser, "fusion", default="self_gated")
    add_shared(parser, "set", "json")


def run(arguments: argparse.Namespace) -> int:
    """Load or build, count, print."""
    if (arguments.model is None) == (not arguments.modalities):
        print(
            "crema describe: name a saved model, or what to build with --modalities, not both and not neither. "
            "Try: crema describe --help",
            file=sys.stderr,
        )
        return USAGE
    for option in ("image-size", "qformer"):
        value = getattr(arguments, option.replace("-", "_"))
        if arguments.model is not None and value is not None:
            raise OptionsError(
                f"--{option} {value} came with a saved model, in which it is as it was trained. Accepted beside it: "
                f"--modalities. Leave --{option} out."
            )
    if arguments.model is not None:
        from crema_core.api.load import load

        model = load(
            model_folder(arguments.model), backbone=arguments.backbone, language_model=arguments.language_model
        )
    else:
        from crema_core.api.build import build

        requests = with_options(arguments.modalities, assignments(arguments.set))
        model = build(requests, **given(arguments, "backbone", "qformer", "language_model", "image_size", "fusion"))
    from crema_core.api.describe import describe_model

    description = describe_model(model)
    print_result(description.to_dict(), description, as_json=arguments.json)
    return 0
