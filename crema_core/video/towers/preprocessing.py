"""How a tower wants its pixels, as its checkpoint says, and how its own preprocessor resizes a picture."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from crema_core.errors import AssetError
from crema_core.model.loading import read_json

PREPROCESSING = ("preprocessor_config.json", "video_preprocessor_config.json", "processor_config.json")
PIL_BILINEAR = 2  # how preprocessors of transformers and Pillow number it; everything else is bicubic here
RGB = tuple[float, float, float]
Interpolation = Literal["bilinear", "bicubic"]


class Preprocessing(NamedTuple):
    """How a tower wants its pixels.

    Attributes:
        size: side of the square pictures.
        mean, std: of every channel, for pixels in 0..1.
        shorter: side the picture's shorter one is scaled to before the middle square is cut out; None: the whole
            picture is squashed into the square.
        interpolation: how.
    """

    size: int
    mean: RGB
    std: RGB
    shorter: int | None = None
    interpolation: Interpolation = "bicubic"

    def at_size(self, size: int | None) -> Preprocessing:
        """Return the same for pictures of another size; None: as they are."""
        if size is None or size == self.size:
            return self
        shorter = None if self.shorter is None else round(self.shorter * size / self.size)
        return self._replace(size=size, shorter=shorter)


def resize_as_trained(frames_TCHW: Tensor, wanted: Preprocessing) -> Tensor:
    """Resize as the tower's own preprocessor, antialiased; nothing is random.

    Args:
        frames_TCHW: `(T, 3, H, W)`, uint8 0..255 or float 0..1.
        wanted: of the tower.

    Returns:
        `(T, 3, size, size)` float32 0..1.
    """
    values = frames_TCHW.float() / 255 if frames_TCHW.dtype == torch.uint8 else frames_TCHW.float()
    height, width = values.shape[-2:]
    target = (wanted.size, wanted.size)
    if wanted.shorter is not None:
        scale = wanted.shorter / min(height, width)
        # The shorter side exactly, the longer one cut to whole pixels; never smaller than the square cut out of it.
        rows, columns = (max(int(side * scale + 1e-6), wanted.size) for side in (height, width))
        target = (rows, columns)
    if values.shape[-2:] != target:
        values = interpolate(values, size=target, mode=wanted.interpolation, antialias=True, align_corners=False)
    top, left = (target[0] - wanted.size) // 2, (target[1] - wanted.size) // 2
    return values[..., top : top + wanted.size, left : left + wanted.size].clamp(0, 1)


def read_preprocessing(source: str | Path, *, revision: str | None = None) -> dict[str, Any]:
    """Return the settings a checkpoint's own preprocessor has (`image_mean`, `size`, ...); empty where it has none.

    Raises:
        AssetError: when the file is there and is not JSON.
    """
    for name in PREPROCESSING:
        settings = read_json(source, name, revision=revision, error=AssetError)
        if settings is not None:
            return settings.get("image_processor") or settings.get("video_processor") or settings
    return {}


def preprocessing_of(settings: dict[str, Any], *, default_size: int) -> Preprocessing:
    """Return what a checkpoint's preprocessor settings say.

    Args:
        settings: of `read_preprocessing`.
        default_size: side where they have none.
    """
    # Some processors scale to -1..1 before they normalise: (x * 255 * factor - offset - mean) / std.
    scale = 255 * float(settings.get("rescale_factor", 1 / 255))
    offset = 1.0 if settings.get("offset") else 0.0
    normalizes = settings.get("do_normalize", True)
    mean = settings.get("image_mean", [0.5] * 3) if normalizes else [0.0] * 3
    std = settings.get("image_std", [0.5] * 3) if normalizes else [1.0] * 3
    size = (settings.get("crop_size") if settings.get("do_center_crop", True) else None) or settings.get("size")
    return Preprocessing(
        side_of(size) if size else default_size,
        (float(offset + mean[0]) / scale, float(offset + mean[1]) / scale, float(offset + mean[2]) / scale),
        (float(std[0]) / scale, float(std[1]) / scale, float(std[2]) / scale),
        shorter=_shorter(settings),
        interpolation="bilinear" if settings.get("resample") == PIL_BILINEAR else "bicubic",
    )


def _shorter(settings: dict[str, Any]) -> int | None:
    size = settings.get("size")
    if isinstance(size, dict):
        return int(size["shortest_edge"]) if size.get("shortest_edge") else None
    crops = settings.get("do_center_crop", True) and settings.get("crop_size")
    return int(size) if isinstance(size, int) and crops else None


def side_of(size: Any) -> int:
    """Return the side of a square that a configuration gives as a number, a pair or a mapping."""
    if isinstance(size, dict):
        return int(size.get("height") or size.get("shortest_edge") or next(iter(size.values())))
    return int(size[0]) if isinstance(size, list | tuple) else int(size)
