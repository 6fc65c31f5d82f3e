"""`crema convert`: released CREMA checkpoints to saved models, and back."""

from __future__ import annotations

import argparse
from pathlib import Path

from crema_core.cli.inputs import CONFIG, add_shared, assignments, help_text, model_folder, with_options

HELP = help_text("convert")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the source, what to build and where to write."""
    parser.add_argument("checkpoint", metavar="CHECKPOINT", help="released checkpoint, or a saved model")
    parser.add_argument("--out", required=True, metavar="PLACE", help="folder of the model, or released file to write")
    add_shared(parser, "modalities", help="modalities of the checkpoint, in its order")
    add_shared(parser, "backbone", help="folder or hub id in BLIP-2 format; default: crema-tiny")
    parser.add_argument("--lora-rank", type=int, default=64, metavar="R", help="rank of the checkpoint's LoRA; 64")
    add_shared(parser, "fusion", default="self_gated", help="self_gated; concat for a checkpoint without fusion")
    add_shared(parser, "set")


def run(arguments: argparse.Namespace) -> int:
    """Convert one way or the other."""
    source = model_folder(arguments.checkpoint)
    if (source / CONFIG).is_file():
        return _export(source, Path(arguments.out))
    return _import(arguments)


def _export(source: Path, file: Path) -> int:
    from crema_core.api.load import load
    from crema_core.common.tensors import write_tensors
    from crema_core.saving.convert import export_released

    state = export_released(load(source))
    file.parent.mkdir(parents=True, exist_ok=True)
    write_tensors(file, state)
    print(f"{len(state)} tensors under the released names: {file}")
    return 0


def _import(arguments: argparse.Namespace) -> int:
    from crema_core.api.build import build
    from crema_core.common.atomic import refuse_foreign
    from crema_core.errors import OptionsError
    from crema_core.model.backbone import TINY
    from crema_core.saving.convert import load_released, read_released

    if not arguments.modalities:
        raise OptionsError(
            "A released checkpoint does not say in which order its modalities were fused. Name them in that order. "
            "Write --modalities FIRST,SECOND."
        )
    refuse_foreign(Path(arguments.out))
    state = read_released(arguments.checkpoint)
    model = build(
        with_options(arguments.modalities, assignments(arguments.set)),
        backbone=arguments.backbone or TINY,
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
