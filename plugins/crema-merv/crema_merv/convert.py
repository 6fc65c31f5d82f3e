"""`crema convert-merv`: a checkpoint of the released MERV code to a saved model."""

from __future__ import annotations

import argparse
from pathlib import Path

from crema_core.cli.inputs import assignments, names, with_options

HELP = """\
Turn a checkpoint of the released MERV code into a saved model.

The paper's four encoders and Llama 2 unless --set and --language-model say otherwise, projectors and mixer as the
weights tell. CHECKPOINT is a torch file, which is read without executing code.

Example:
  crema convert-merv latest-checkpoint.pt --out merv"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the source, what to build and where to write."""
    parser.add_argument("checkpoint", metavar="CHECKPOINT", help="file of the folder checkpoints of a released run")
    parser.add_argument("--out", required=True, metavar="PLACE", help="folder of the model")
    parser.add_argument("--modalities", type=names, metavar="A,B", help="default: video, with the released frames")
    parser.add_argument("--language-model", metavar="PLACE", help="the one it was trained from; default: Llama 2")
    parser.add_argument(
        "--set", action="append", default=[], metavar="MODALITY.OPTION=VALUE", help="option; may be repeated"
    )


def run(arguments: argparse.Namespace) -> int:
    """Convert."""
    from crema_core.api.build import build
    from crema_core.common.atomic import refuse_foreign
    from crema_merv.checkpoint import read_released_merv
    from crema_merv.presets import released_config
    from crema_merv.released_model import fusion_options, load_released_model

    refuse_foreign(Path(arguments.out))
    parts = read_released_merv(arguments.checkpoint)
    config = released_config()
    requests = with_options(arguments.modalities or config.pop("modalities"), assignments(arguments.set))
    chosen = any(request.get("encoders") for request in requests)
    model = build(
        requests,
        language_model=arguments.language_model or config["language_model"],
        fusion={"name": "merv", **fusion_options(parts)},
        encoders=None if chosen else config["encoders"],
        template=config["template"],
        tuning="full" if parts.language_model else None,
    )
    done = load_released_model(model, parts)
    model.save_pretrained(arguments.out)
    print(f"{', '.join(done)} of {len(parts.projectors)} encoders converted\nsaved model: {arguments.out}")
    return 0
