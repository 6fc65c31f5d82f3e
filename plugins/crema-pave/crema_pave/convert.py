"""`crema convert-pave`: a released PAVE run to a saved model, and one patch of a saved model back."""

from __future__ import annotations

import argparse
from pathlib import Path

from crema_core.cli.inputs import CONFIG, assignments, model_folder, with_options

BACKBONE = "llava-hf/llava-onevision-qwen2-7b-ov-hf"

HELP = """\
Turn a run of the released PAVE code into a saved model, or one patch of a saved model into released weights.

The patch is built as its weights tell; heads and rotary embedding, which leave no trace in them, as published unless
they are named. RUN is a folder with non_lora_trainables.bin and, where the language model was trained, its LoRA; files
are read without executing code. A folder with crema.json is a saved model and goes the other way: the patch of
--modality into the torch file --out, which needs shared_value=true as all released patches have.

Example:
  crema convert-pave pave_v5_1_3_lora_7B_audio --modality audio --set audio.encoder=beats --out pave-audio
  crema convert-pave pave-audio --modality audio --out non_lora_trainables.bin"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the source, what to build and where to write."""
    parser.add_argument(
        "run", metavar="RUN", help="folder of a released run or its file of the patch; or a saved model"
    )
    parser.add_argument("--modality", required=True, metavar="NAME", help="the one the patch is of")
    parser.add_argument("--out", required=True, metavar="PLACE", help="folder of the model, or released file to write")
    parser.add_argument("--backbone", default=BACKBONE, metavar="PLACE", help=f"the one it was trained on; {BACKBONE}")
    parser.add_argument("--major", default="video", metavar="NAME", help="whose tokens are updated; video")
    parser.add_argument("--num-heads", type=int, default=4, metavar="N", help="attention heads of the run; 4")
    parser.add_argument("--rotary", default="none", metavar="NAME", help="none; released_3d for V5_1_2 configurations")
    parser.add_argument(
        "--conv-strides", type=_numbers, default=(), metavar="N,N", help="of the stages of a convolutional side map"
    )
    parser.add_argument(
        "--set", action="append", default=[], metavar="MODALITY.OPTION=VALUE", help="option; may be repeated"
    )


def run(arguments: argparse.Namespace) -> int:
    """Convert one way or the other."""
    source = model_folder(arguments.run)
    if (source / CONFIG).is_file():
        return _export(source, arguments.modality, Path(arguments.out))
    return _import(arguments)


def _export(source: Path, name: str, file: Path) -> int:
    import torch

    from crema_core.api.load import load
    from crema_core.errors import OptionsError
    from crema_pave.patch import PavePatch
    from crema_pave.released import export_released_patch

    model = load(source)
    patch = dict(model.fusion.blocks.named_children()).get(name)
    if not isinstance(patch, PavePatch):
        raise OptionsError(
            f"'{source}' has no PAVE patch for '{name}'. Accepted: {', '.join(model.fusion.supporting) or 'none'}. "
            "Name a supporting modality of a model with fusion='pave'."
        )
    state = export_released_patch(patch)
    file.parent.mkdir(parents=True, exist_ok=True)
    torch.save(state, file)
    print(f"{len(state)} tensors under the released names: {file}")
    return 0


def _import(arguments: argparse.Namespace) -> int:
    from crema_core.api.build import build
    from crema_core.common.atomic import refuse_foreign
    from crema_pave.released import read_released_patch
    from crema_pave.released_run import fusion_options, load_released_run, lora_settings

    refuse_foreign(Path(arguments.out))
    known = {"num_heads": arguments.num_heads, "rotary": arguments.rotary, "conv_strides": arguments.conv_strides}
    released = read_released_patch(arguments.run, **known)
    model = build(
        with_options([arguments.major, arguments.modality], assignments(arguments.set)),
        backbone=arguments.backbone,
        major=arguments.major,
        fusion={"name": "pave", **fusion_options(released)},
        tuning=None if released.lora is None else lora_settings(released.lora),
    )
    aside = load_released_run(model, arguments.modality, arguments.run, **known)
    model.save_pretrained(arguments.out)
    print(f"patch of {arguments.modality} converted, {len(aside)} dead tensors left aside")
    print(f"saved model: {arguments.out}")
    return 0


def _numbers(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in text.split(","))
