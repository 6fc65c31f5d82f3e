"""`crema fit`: train a model's adapters on a data file."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from crema_core.cli.fit_config import complete, read_config, show
from crema_core.cli.inputs import PRESET_HELP, assignments, names, with_options
from crema_core.cli.launch import add_processes, launch, wants_launch
from crema_core.cli.training import add_common, train
from crema_core.train.settings import TrainSettings, train_settings

USAGE = 2

HELP = f"""\
Train the adapters of a model on a data file; the backbone stays as it is.

The data file is JSONL, one question per line:
  {{"id": "1", "question": "What barks?", "answer": "a dog", "video": "clips/1.mp4", "audio": "clips/1.wav"}}
A YAML file may say the same as the options, with the keys data, valid, out, modalities, backbone, fusion, preset,
settings and so on. Options replace what the file says.

A preset is a set of training settings, or a whole run of the CREMA paper: a data set and a letter per sense, such as
nextqa-vfdn, or a preset of an installed package. --show prints what it stands for, with what every value
rests on, as a configuration file. --start RUN begins with what an earlier run has trained, for the next stage.

Settings for --set: {", ".join(TrainSettings.model_fields)};
SENSE.OPTION=VALUE sets an option of a sense (crema plugins show SENSE), SENSE.mmqa.SIZE=VALUE a size of its adapter.

Example:
  crema fit train.jsonl --valid valid.jsonl --modalities video,audio --preset tiny --set epochs=5
  crema fit nextqa-train.jsonl --preset nextqa-vfdn --set batch_size=4 --set accumulation=4
  crema fit --preset nextqa-vfdn --show > config.yaml
  crema fit config.yaml --out runs/second
  crema fit config.yaml --processes 8"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the source and the options that replace single fields of the configuration."""
    parser.add_argument(
        "source", nargs="?", metavar="CONFIG.yaml|DATA.jsonl", help="a configuration, or the training data"
    )
    parser.add_argument("--modalities", type=names, metavar="A,B", help="senses in order; default: those in the data")
    parser.add_argument(
        "--backbone", metavar="PLACE", help="BLIP-2 or InstructBLIP folder or hub id; default: crema-tiny"
    )
    parser.add_argument("--language-model", metavar="PLACE", help="another language model, folder or hub id")
    parser.add_argument("--image-size", type=int, metavar="PIXELS", help="side of square pictures, for Qwen-VL")
    parser.add_argument("--valid", metavar="DATA.jsonl", help="validation data; with it the best weights are kept")
    parser.add_argument("--out", metavar="RUN", help="the run directory; default: a new one below runs/")
    parser.add_argument("--fusion", metavar="NAME", help="fusion strategy; default: self_gated")
    parser.add_argument("--major", metavar="SENSE", help="sense on whose frames the others are fused")
    parser.add_argument("--preset", metavar="NAME", help=PRESET_HELP)
    parser.add_argument("--start", metavar="RUN", help="saved model or run of an earlier stage, to start from")
    parser.add_argument("--show", action="store_true", help="print what --preset stands for, and do nothing")
    add_processes(parser)
    add_common(parser)


def run(arguments: argparse.Namespace) -> int:
    """Check everything that needs no torch, then train."""
    given = assignments(arguments.set)
    settings = {key: value for key, value in given.items() if "." not in key}
    changes = {
        key: getattr(arguments, key)
        for key in (
            *("modalities", "backbone", "language_model", "image_size"),
            *("valid", "out", "fusion", "major", "preset", "start"),
        )
    }
    if arguments.show:
        print(show(arguments.preset, changes, settings))
        return 0
    if arguments.source is None:
        print("crema fit: name a configuration or a data file. Try: crema fit --help", file=sys.stderr)
        return USAGE
    config = read_config(arguments.source, changes, settings)
    train_settings(config.preset, config.settings)
    if wants_launch(arguments):
        return launch(arguments.words, arguments.processes)
    config = complete(config)
    requests = with_options(config.modalities or (), {key: value for key, value in given.items() if "." in key})
    config = config.model_copy(update={"modalities": tuple(requests)})
    folder = Path(config.out) if config.out else None
    return train(config, folder, resume=False, settings=config.settings, as_json=arguments.json)
