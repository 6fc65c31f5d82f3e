"""Stage 2: the ViT of crema-tiny learns to see, as the image encoder of BLIP-2 has learnt before it is frozen.

Dense supervision of every patch: rebuild it coarsely (so its token keeps colour, brightness and texture of anything),
say where it is, and name the colour and the shape of the thing that covers it. The heads are thrown away afterwards.

Shape letters: B pictures, P patches (64), D width, C colour or shape labels, H, W rows and columns.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d, cross_entropy, mse_loss, unfold
from transformers import Blip2VisionModel

from crema_world.backbone import IMAGE_MEAN, IMAGE_STD
from crema_world.language_stage import rate_factor
from crema_world.pictures import COLOR_LABELS, PATCH_SIZE, SHAPE_LABELS, Pictures
from crema_world.render import ByteArray

PEAK_RATE = 1e-3
_COARSE = 4  # side in cells of a rebuilt patch
_SIDE = 8  # patches in a row of the picture
_ROWS, _COLUMNS = torch.arange(_SIDE**2) // _SIDE, torch.arange(_SIDE**2) % _SIDE  # of every patch


def train_vision(
    model: Blip2VisionModel,
    pictures: Pictures,
    *,
    num_steps: int,
    batch_size: int,
    seed: int,
    report: Callable[[str], None] = print,
) -> None:
    """Train in place on pictures drawn at random; `report` receives a status line every 250 steps."""
    torch.manual_seed(seed)
    width = model.config.hidden_size
    heads = nn.ModuleDict(
        {
            "pixels": nn.Linear(width, 3 * _COARSE**2),
            "color": nn.Linear(width, len(COLOR_LABELS)),
            "shape": nn.Linear(width, len(SHAPE_LABELS)),
            "row": nn.Linear(width, _SIDE),
            "column": nn.Linear(width, _SIDE),
        }
    )
    weights = [*model.parameters(), *heads.parameters()]
    optimizer = torch.optim.AdamW(weights, lr=PEAK_RATE, betas=(0.9, 0.98), weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: rate_factor(step, num_steps))
    generator = np.random.default_rng(seed)
    model.train()
    for step in range(1, num_steps + 1):
        rows = generator.integers(len(pictures.images), size=batch_size)
        pixels_BCHW = normalize(pictures.images[rows])
        tokens_BPD = model.post_layernorm(patch_features(model, pixels_BCHW)[:, 1:])
        coarse = mse_loss(heads["pixels"](tokens_BPD), coarse_patches(pixels_BCHW))
        colors, shapes = torch.from_numpy(pictures.colors[rows]), torch.from_numpy(pictures.shapes[rows])
        color_BCP = heads["color"](tokens_BPD).transpose(1, 2)
        shape_BCP = heads["shape"](tokens_BPD).transpose(1, 2)
        place = sum(
            cross_entropy(heads[name](tokens_BPD).transpose(1, 2), places.expand(batch_size, -1))
            for name, places in (("row", _ROWS), ("column", _COLUMNS))
        )
        loss = 2 * coarse + cross_entropy(color_BCP, colors) + cross_entropy(shape_BCP, shapes) + place
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(weights, 1.0)
        optimizer.step()
        schedule.step()
        if step % 250 == 0 or step == num_steps:
            report(
                f"vision {step}/{num_steps}  rebuild {coarse.item():.4f}  "
                f"color {_accuracy(color_BCP, colors):.3f}  shape {_accuracy(shape_BCP, shapes):.3f}"
            )


def patch_features(model: Blip2VisionModel, pixels_BCHW: Tensor) -> Tensor:
    """Return the last hidden states before the final norm, `(B, 1 + P, D)`: what adapters are given."""
    hidden: tuple[Tensor, ...] = model(pixel_values=pixels_BCHW, output_hidden_states=True).hidden_states
    return hidden[-1]


def normalize(images_BHWC: ByteArray) -> Tensor:
    """Turn uint8 RGB `(B, H, W, 3)` into normalised pixels `(B, 3, H, W)`."""
    pixels = torch.from_numpy(images_BHWC).permute(0, 3, 1, 2).float() / 255
    return (pixels - torch.tensor(IMAGE_MEAN).view(3, 1, 1)) / torch.tensor(IMAGE_STD).view(3, 1, 1)


def coarse_patches(pixels_BCHW: Tensor) -> Tensor:
    """Return every patch as 4 x 4 mean colours, `(B, P, 48)`."""
    small = avg_pool2d(pixels_BCHW, PATCH_SIZE // _COARSE)
    return unfold(small, _COARSE, stride=_COARSE).transpose(1, 2)


def _accuracy(logits_BCP: Tensor, labels_BP: Tensor) -> float:
    """Return the share of right names among the patches that a thing covers."""
    covered = labels_BP > 0
    return float((logits_BCP.argmax(1) == labels_BP)[covered].float().mean())
