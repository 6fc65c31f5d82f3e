"""`crema convert`: released CREMA checkpoints to saved models, and back."""

from __future__ import annotations

import argparse
from pathlib import Path

from crema_core.cli.inputs import CONFIG, assignments, model_folder, names, with_options

HELP = """\
Turn a checkpoint of the released CREMA code into a saved model, or a saved model into released weights.

The modalities are named in the checkpoint's order. The model is built with the released layout, so that released
weights give released numbers. CHECKPOINT is a torch file (read without executing code) or safetensors; a folder with
crema.json is a saved model and goes the other way, into the safetensors file --out.

Example:
  crema convert crema_nextqa.pth --modalities video,flow,depth --backbone Salesforce/blip2-flan-t5-xl --out nextqa
  crema convert nextqa --out released.safetensors"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the source, what to build and where to write."""
    parser.add_argument("checkpoint", metavar="CHECKPOINT", help="released checkpoint, or a saved model")
    parser.add_argument("--out", required=True, metavar="PLACE", help="folder of the model, or released file to write")
    parser.add_argument("--modalities", type=names, metavar="A,B", help="modalities of the checkpoint, in its order")
    parser.add_argument("--backbone", metavar="PLACE", help="folder or hub id in BLIP-2 format; default: crema-tiny")
    parser.add_argument("--lora-rank", type=int, default=64, metavar="R", help="rank of the checkpoint's LoRA; 64")
    parser.add_argument(
        "--fusion",
        default="self_gated",
        metavar="NAME",
        help="self_gated; concat for a checkpoint without fusion",
    )
    parser.add_argument(
        "--set", action="append", default=[], metavar="MODALITY.OPTION=VALUE", help="option; may be repeated"
    )


def run(arguments: argparse.Namespace) -> int:
    """Convert one way or the other."""
    source = model_folder(arguments.checkpoint)
    if (source / CONFIG).is_file():
        return _export(source, Path(arguments.out))
    return _import(arguments)


def _export(source: Path, file: Path) -> int:
    from crema_benchmarks.released import export_released
    from crema_core.api.load import load
    from crema_core.common.tensors import write_tensors

    state = export_released(load(source))
    file.parent.mkdir(parents=True, exist_ok=True)
    write_tensors(file, state)
    print(f"{len(state)} tensors under the released names: {file}")
    return 0


def _import(arguments: argparse.Namespace) -> int:
    from crema_benchmarks.released import load_released
    from crema_core.api.build import build
    from crema_core.common.atomic import refuse_foreign
    from crema_core.common.tensors import read_released
    from crema_core.errors import OptionsError

    if not arguments.modalities:
        raise OptionsError(
            "A released checkpoint does not say in which order its modalities were fused. Name them in that order. "
            "Write --modalities FIRST,SECOND."
        )
    refuse_foreign(Path(arguments.out))
    state = read_released(arguments.checkpoint)
    model = build(
        with_options(arguments.modalities, assignments(arguments.set)),
        **({"backbone": arguments.backbone} if arguments.backbone else {}),
        fusion={"name": arguments.fusion, "layout": "released"},
        mmqa={"lora_rank": arguments.lora_rank},
        template={"max_question_tokens": 77, "choice_scoring": "released"},
    )
    aside = load_released(model, state)
    model.save_pretrained(arguments.out)
    converted = len(state) - len(aside)
    print(f"{', '.join(model.names)}: {converted} tensors converted, {len(aside)} frozen or dead left aside")
    print(f"saved model: {arguments.out}")
    return 0
