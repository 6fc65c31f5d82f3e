"""`crema pretrain`: train one modality's encoder on unlabelled pairs with a frozen modality."""

from __future__ import annotations

import argparse
import dataclasses
from pathlib import Path

from crema_core.cli.inputs import add_shared, assignments, given, help_text, print_result, with_options

HELP = help_text(
    "pretrain",
    settings="epochs, batch_size, lr, min_lr, warmup_ratio, weight_decay, max_grad_norm, precision, projection_dim, "
    "temperature, num_workers, seed",
    changeable="lr, max_grad_norm, min_lr, precision, weight_decay",
)
MODEL = "model"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the pairs, the two modalities and what they are built on."""
    parser.add_argument("data", metavar="PAIRS.jsonl", help="lines with the files of both modalities")
    parser.add_argument("--modality", required=True, metavar="NAME", help="whose encoder is trained")
    parser.add_argument("--against", required=True, metavar="NAME", help="the frozen modality it is trained against")
    add_shared(parser, "backbone", "image-size")
    parser.add_argument("--out", metavar="RUN", help="the run directory; default: a new one below runs/")
    parser.add_argument("--resume", action="store_true", help="continue the run in --out after its last epoch")
    add_shared(parser, "set", metavar="KEY=VALUE", help="a setting or an option of a modality; may be repeated")
    add_shared(parser, "json")


def run(arguments: argparse.Namespace) -> int:
    """Build both modalities, train, and save the model."""
    values = assignments(arguments.set)
    settings = {key: value for key, value in values.items() if "." not in key}
    options = {key: value for key, value in values.items() if "." in key}
    requests = with_options([arguments.against, arguments.modality], options)
    from crema_core.api.build import build
    from crema_core.common.processes import ALONE
    from crema_core.common.progress import StatusLine
    from crema_core.train.contrastive import pretrain
    from crema_core.train.run import only_writer, run_folder

    model = build(requests, major=arguments.against, **given(arguments, "backbone", "image_size"))
    with run_folder(arguments.out, ALONE) as folder, only_writer(folder, ALONE, StatusLine().note):
        found = pretrain(
            model,
            arguments.data,
            modality=arguments.modality,
            against=arguments.against,
            out=folder,
            resume=arguments.resume,
            **settings,
        )
        model.save_pretrained(found.path / MODEL)
    last = found.metrics[-1]
    text = (
        f"{len(found.metrics)} epochs, loss {last['loss']:.3f}, accuracy {last['accuracy']:.1%} (chance "
        f"{last['chance']:.1%}).\nSaved in {Path(found.path) / MODEL}. Next: crema fit DATA.jsonl --modalities "
        f"{arguments.against},{arguments.modality} --init-from {found.path}"
    )
    print_result({**dataclasses.asdict(found), "path": str(found.path)}, text, as_json=arguments.json)
    return 0
