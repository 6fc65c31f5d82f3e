"""Train three small encoders that know different things: `python -m crema_world.pretrain_encoders --out FOLDER`.

For strategies that mix encoders (MERV): stills (SigLIP-shaped) learns to name colours and shapes, motion (ViViT-shaped)
where what it sees goes, texture (DINOv2-shaped) how the room is papered; the last two see the colours of every clip
exchanged, so they learn none. Each is a checkpoint of its own kind in transformers' format, read by the same code as
the real ones. Six minutes of one core with the default schedule.

Shape letters: B clips, T frames, S steps, P patches of a step (64), D width.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers as hf
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from crema_core.common.atomic import fresh_folder
from crema_core.video.vision_encoder import vision_encoder_class
from crema_world.errors import WorldError
from crema_world.generate import draw_scenes
from crema_world.language_stage import rate_factor
from crema_world.moving import NUM_FRAMES, covered_patches, moving_frames
from crema_world.render import ByteArray
from crema_world.scene import COLORS, DIRECTIONS, IMAGE_SIZE, MATERIALS, SHAPES, Scene

WIDTH, LAYERS, PATCH, TUBE = 64, 3, 8, 2
PEAK_RATE = 2e-3
_SIZES: dict[str, Any] = {
    "hidden_size": WIDTH, "num_hidden_layers": LAYERS, "num_attention_heads": 4, "image_size": IMAGE_SIZE,
}  # fmt: skip


@dataclass(frozen=True)
class Schedule:
    """How long each encoder is trained, and on how many clips."""

    steps: int = 400
    num_clips: int = 1000
    batch_size: int = 24


@dataclass(frozen=True)
class Clips:
    """Rendered clips with the names of what every patch shows.

    Attributes:
        frames: `(clips, T, H, W, 3)` uint8.
        labels: by what is named, `(clips, T, P)` int64; 0 is nothing.
    """

    frames: ByteArray
    labels: Mapping[str, NDArray[np.int64]]


@dataclass(frozen=True)
class Lesson:
    """One encoder.

    Attributes:
        vision encoder: the vision encoder that reads its checkpoint.
        make: the model and its image processor.
        names: what its patches learn to name, with how many names there are, nothing included.
        prefix: tokens before the patches.
        colors: whether it sees true colours.
    """

    vision_encoder: str
    make: Callable[[], tuple[Any, Any]]
    names: Mapping[str, int]
    prefix: int
    colors: bool


def _stills() -> tuple[Any, Any]:
    config = hf.SiglipVisionConfig(**_SIZES, intermediate_size=4 * WIDTH, patch_size=PATCH, vision_use_head=False)
    return hf.SiglipVisionModel(config), hf.SiglipImageProcessor(size={"height": IMAGE_SIZE, "width": IMAGE_SIZE})


def _motion() -> tuple[Any, Any]:
    sizes = {**_SIZES, "intermediate_size": 4 * WIDTH, "hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    model = hf.VivitModel(hf.VivitConfig(**sizes, num_frames=NUM_FRAMES, tubelet_size=[TUBE, PATCH, PATCH]))
    return model, hf.VivitImageProcessor(**_square())


def _texture() -> tuple[Any, Any]:
    model = hf.Dinov2Model(hf.Dinov2Config(**_SIZES, patch_size=PATCH))
    return model, hf.BitImageProcessor(**_square())


def _square() -> dict[str, Any]:
    return {"size": {"shortest_edge": IMAGE_SIZE}, "crop_size": {"height": IMAGE_SIZE, "width": IMAGE_SIZE}}


LESSONS: dict[str, Lesson] = {
    "stills": Lesson("siglip", _stills, {"color": len(COLORS) + 1, "shape": len(SHAPES) + 1}, 0, colors=True),
    "motion": Lesson("vivit", _motion, {"motion": len(DIRECTIONS) + 1}, 1, colors=False),
    "texture": Lesson("dinov2", _texture, {"material": len(MATERIALS) + 1}, 1, colors=False),
}


def pretrain_encoders(out: Path, *, seed: int = 0, schedule: Schedule | None = None) -> dict[str, dict[str, str]]:
    """Train and write the encoders.

    Args:
        out: a new or empty folder; it appears complete or not at all.
        seed: of weights, clips and order.
        schedule: shorter ones are for trying.

    Returns:
        By name, what `crema_core.build(encoders=...)` takes.

    Raises:
        WorldError: when `out` is not empty. Nothing is written then.
    """
    schedule = schedule or Schedule()
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise WorldError(
            f"{out} exists and is not an empty folder. Encoders are written only into a new or empty folder. Choose "
            "another folder with --out. Nothing was changed."
        )
    clips = draw_clips(draw_scenes(num_clips=schedule.num_clips, seed=seed, split="train"))
    with fresh_folder(out) as scratch:
        for name, lesson in LESSONS.items():
            torch.manual_seed(seed)  # transformers initialises from the global generator
            model, processor = lesson.make()
            model.config.save_pretrained(scratch / name)
            processor.save_pretrained(scratch / name)
            train_encoder(model, lesson, clips, scratch / name, schedule=schedule, seed=seed, name=name)
            model.save_pretrained(scratch / name)
    return encoders_in(out)


def encoders_in(folder: Path) -> dict[str, dict[str, str]]:
    """Return by name what `crema_core.build(encoders=...)` takes."""
    return {name: {"name": lesson.vision_encoder, "weights": str(folder / name)} for name, lesson in LESSONS.items()}


def draw_clips(scenes: list[Scene]) -> Clips:
    """Render clips and name what every patch shows."""
    frames, labels = [], []
    for scene in scenes:
        frames.append(moving_frames(scene))
        covered = np.stack([covered_patches(scene, frame=frame) for frame in range(NUM_FRAMES)])
        facts = scene.answers
        labels.append(
            {
                "color": np.where(covered, COLORS.index(facts.color) + 1, 0),
                "shape": np.where(covered, SHAPES.index(facts.shape) + 1, 0),
                "motion": np.where(covered, DIRECTIONS.index(facts.motion) + 1, 0),
                "material": np.where(covered, 0, MATERIALS.index(facts.material) + 1),
            }
        )
    return Clips(np.stack(frames), {name: np.stack([own[name] for own in labels]) for name in labels[0]})


def train_encoder(
    model: Any, lesson: Lesson, clips: Clips, folder: Path, *, schedule: Schedule, seed: int, name: str
) -> None:
    """Train a model in place to name what its patches show.

    Args:
        model: of transformers.
        lesson: what it learns.
        clips: to learn from.
        folder: with its configuration and image processor.
        schedule: steps and clips of a step.
        seed: of the order and of the colours exchanged.
        name: shown in the progress.
    """
    heads = nn.ModuleDict({what: nn.Linear(WIDTH, count) for what, count in lesson.names.items()})
    vision_encoder = vision_encoder_class(lesson.vision_encoder)(str(folder))
    weights = [*model.parameters(), *heads.parameters()]
    optimizer = torch.optim.AdamW(weights, lr=PEAK_RATE, betas=(0.9, 0.98), weight_decay=0.01)
    schedule_of = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: rate_factor(step, schedule.steps))
    generator = np.random.default_rng([seed, len(name)])
    joined = lesson.vision_encoder == "vivit"
    model.train()
    for step in range(1, schedule.steps + 1):
        rows = generator.integers(len(clips.frames), size=schedule.batch_size)
        moments = np.arange(NUM_FRAMES) if joined else generator.integers(NUM_FRAMES, size=2)
        pixels_BTCHW = torch.from_numpy(clips.frames[rows][:, moments]).permute(0, 1, 4, 2, 3)
        if not lesson.colors:
            pixels_BTCHW = exchange_colors(pixels_BTCHW, generator)
        prepared = vision_encoder.prepare(pixels_BTCHW.flatten(0, 1)).unflatten(0, pixels_BTCHW.shape[:2])
        given = prepared if joined else prepared.flatten(0, 1)
        tokens_MPD = model(pixel_values=given).last_hidden_state[:, lesson.prefix :]
        moments = moments[::TUBE] if joined else moments
        loss, right = torch.zeros(()), []
        for what, head in heads.items():
            labels = torch.from_numpy(clips.labels[what][rows][:, moments]).flatten()
            logits = head(tokens_MPD).flatten(0, 1)
            # Most patches show nothing; they count a tenth.
            weight = torch.ones(logits.shape[1]).index_fill(0, torch.tensor([0]), 0.1)
            loss = loss + cross_entropy(logits, labels, weight)
            right.append(f"{what} {float((logits.argmax(1) == labels)[labels > 0].float().mean()):.3f}")
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(weights, 1.0)
        optimizer.step()
        schedule_of.step()
        if step % 200 == 0 or step == schedule.steps:
            print(f"{time.strftime('%H:%M:%S')}  {name} {step}/{schedule.steps}  {'  '.join(right)}", flush=True)
    model.eval()


def exchange_colors(pixels_BTCHW: Tensor, generator: np.random.Generator) -> Tensor:
    """Permute and mirror the channels of every clip, so that no colour keeps its name."""
    changed = []
    for clip in pixels_BTCHW:
        mixed = clip[:, torch.from_numpy(generator.permutation(3))]
        negative = torch.from_numpy(generator.integers(2, size=3).astype(bool))[:, None, None]
        changed.append(torch.where(negative, 255 - mixed, mixed))
    return torch.stack(changed)


def main() -> None:
    """Read the command line and train."""
    parser = argparse.ArgumentParser(prog="python -m crema_world.pretrain_encoders", description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="new or empty folder for the encoders")
    parser.add_argument("--seed", type=int, default=0)
    for name, value in vars(Schedule()).items():
        parser.add_argument(f"--{name.replace('_', '-')}", type=int, default=value)
    given = parser.parse_args()
    torch.set_num_threads(1)
    schedule = Schedule(**{name: getattr(given, name) for name in vars(Schedule())})
    pretrain_encoders(given.out, seed=given.seed, schedule=schedule)


if __name__ == "__main__":
    main()
