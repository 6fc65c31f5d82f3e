"""`crema describe`: parameters, memory and cost of a model by component."""

from __future__ import annotations

import argparse
import json
import sys

from crema_core.cli.inputs import assignments, model_folder, names, with_options
from crema_core.errors import OptionsError

USAGE = 2

HELP = """\
Show the parts of a model: frozen and trainable parameters, memory, arithmetic per answer.

Either of a saved model, or of one that would be built from --modalities on --backbone.

Example:
  crema describe runs/second
  crema describe --modalities video,audio --backbone instructblip-vicuna-7b
  crema describe --modalities video,audio --backbone Salesforce/blip2-flan-t5-xl --json"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add a saved model, or what to build."""
    parser.add_argument("model", nargs="?", metavar="MODEL", help="saved model, or run directory of crema fit")
    parser.add_argument("--modalities", type=names, metavar="A,B", help="modalities of a model to build")
    parser.add_argument(
        "--backbone", metavar="PLACE", help="BLIP-2 or InstructBLIP folder or hub id; default: crema-tiny"
    )
    parser.add_argument("--language-model", metavar="PLACE", help="another language model, folder or hub id")
    parser.add_argument("--image-size", type=int, metavar="PIXELS", help="side of square pictures, for Qwen-VL")
    parser.add_argument("--fusion", default="self_gated", metavar="NAME", help="fusion strategy of a model to build")
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="MODALITY.OPTION=VALUE",
        help="option of a modality; may be repeated",
    )
    parser.add_argument("--json", action="store_true", help="print JSON")


def run(arguments: argparse.Namespace) -> int:
    """Load or build, count, print."""
    if (arguments.model is None) == (not arguments.modalities):
        print(
            "crema describe: name a saved model, or what to build with --modalities, not both and not neither. "
            "Try: crema describe --help",
            file=sys.stderr,
        )
        return USAGE
    if arguments.model is not None and arguments.image_size is not None:
        raise OptionsError(
            f"--image-size {arguments.image_size} came with a saved model, whose pictures are as large as in its "
            "training. Accepted beside it: --modalities. Leave --image-size out."
        )
    if arguments.model is not None:
        from crema_core.api.load import load

        model = load(
            model_folder(arguments.model), backbone=arguments.backbone, language_model=arguments.language_model
        )
    else:
        from crema_core.api.build import build

        requests = with_options(arguments.modalities, assignments(arguments.set))
        model = build(
            requests,
            backbone=arguments.backbone,
            language_model=arguments.language_model,
            image_size=arguments.image_size,
            fusion=arguments.fusion,
        )
    from crema_core.api.describe import describe_model

    description = describe_model(model)
    print(json.dumps(description.to_dict(), indent=2) if arguments.json else description)
    return 0
