"""Train crema-tiny from nothing: `python -m crema_world.pretrain --out FOLDER`.

Three stages, as BLIP-2 was made: the language model on text (three quarters of the time), the ViT on pictures, then
the Q-Former between the two frozen ones. The same seed and number of threads give the same weights on one machine. One
run takes 39 minutes of one core. What the package ships was made with these stages, sizes and seeds, each stage started
by itself; the result of the whole command passes the same tests (`tests/world/test_tiny.py`).
"""

from __future__ import annotations

import argparse
import time
from dataclasses import dataclass
from pathlib import Path

import torch

from crema_core.common.atomic import fresh_folder
from crema_world.backbone import new_backbone, save_backbone
from crema_world.caption_stage import train_captions
from crema_world.errors import WorldError
from crema_world.language_stage import train_language
from crema_world.pictures import draw_pictures
from crema_world.vision_stage import train_vision


@dataclass(frozen=True)
class Schedule:
    """How long each stage is trained, in steps, and on how many pictures."""

    language_steps: int = 5000
    vision_steps: int = 1600
    align_steps: int = 500
    caption_steps: int = 800
    num_pictures: int = 12_000
    batch_size: int = 64


def pretrain(out: Path, *, seed: int = 0, schedule: Schedule | None = None) -> None:
    """Train and write a tiny backbone.

    Args:
        out: a new or empty folder; it appears complete or not at all.
        seed: seed of weights, data and noise.
        schedule: shorter ones are for trying; the default makes what the package ships.

    Raises:
        WorldError: when `out` is not empty. Nothing is written then.
    """
    out, schedule = Path(out), schedule or Schedule()
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise WorldError(
            f"{out} exists and is not an empty folder. A backbone is written only into a new or empty folder. "
            "Choose another folder with --out. Nothing was changed."
        )
    model, tokenizer = new_backbone(seed=seed)
    size = schedule.batch_size
    train_language(model.language_model, num_steps=schedule.language_steps, batch_size=size, seed=seed, report=_report)
    pictures = draw_pictures(schedule.num_pictures, seed=seed)
    train_vision(
        model.vision_model, pictures, num_steps=schedule.vision_steps, batch_size=size, seed=seed, report=_report
    )
    train_captions(
        model,
        pictures,
        num_align_steps=schedule.align_steps,
        num_steps=schedule.caption_steps,
        batch_size=size,
        seed=seed,
        report=_report,
    )
    with fresh_folder(out) as scratch:
        save_backbone(model, tokenizer, scratch)


def _report(line: str) -> None:
    print(f"{time.strftime('%H:%M:%S')}  {line}", flush=True)


def main() -> None:
    """Read the command line and train."""
    parser = argparse.ArgumentParser(prog="python -m crema_world.pretrain", description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="new or empty folder for the backbone")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1, help="processor cores to use; 1 made the shipped weights")
    for name, value in vars(Schedule()).items():
        parser.add_argument(f"--{name.replace('_', '-')}", type=int, default=value)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    schedule = Schedule(**{name: getattr(given, name) for name in vars(Schedule())})
    pretrain(given.out, seed=given.seed, schedule=schedule)


if __name__ == "__main__":
    main()
