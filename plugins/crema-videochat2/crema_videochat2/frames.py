"""Which frames of a clip VideoChat2 looks at, and how they become pixels: the released rules.

The rules of the demo, of the benchmarks and of training differ from each other by a frame here and there.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

CLIP = ((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711))
IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
STATISTICS = {"clip": CLIP, "imagenet": IMAGENET}
"""Released tests normalise by CLIP's mean and deviation, released training by ImageNet's, so whoever trains chooses."""


def demo_indices(num_available: int, num_wanted: int) -> list[int]:
    """Return the frames the demo takes; short clips repeat some.

    >>> demo_indices(33, 4)
    [4, 12, 20, 28]
    """
    return benchmark_indices(num_wanted, last=num_available - 1)


def benchmark_indices(
    num_wanted: int,
    *,
    last: int,
    first: int = 0,
    fps: float = 1.0,
    bound_s: tuple[float, float] | None = None,
) -> list[int]:
    """Return the frames the benchmarks take.

    Args:
        num_wanted: how many.
        last: largest index: the number of frames less one, or of a folder of pictures that counts from 1 their number.
        first: smallest index; 1 for such folders.
        fps: frames per second, 3 for folders of pictures.
        bound_s: start and end in seconds; None: the whole clip.

    >>> benchmark_indices(8, last=57, first=1, fps=3, bound_s=(0.0, 3.0))
    [1, 2, 3, 4, 5, 6, 7, 8]
    """
    start, end = first, last
    if bound_s is not None:
        start, end = max(first, round(bound_s[0] * fps)), min(round(bound_s[1] * fps), last)
    segment = (end - start) / num_wanted
    # numpy rounds halves to even, as Python does.
    return [int(start + segment / 2 + np.round(segment * index)) for index in range(num_wanted)]


def training_indices(num_available: int, num_wanted: int, *, generator: torch.Generator | None = None) -> list[int]:
    """Return the frames training takes: one of each of equal intervals; a short clip repeats its last.

    Args:
        num_available: frames of the clip.
        num_wanted: how many.
        generator: draws a frame of each interval, never its last; None: the middle ones.

    >>> training_indices(33, 4)
    [3, 11, 19, 28]
    """
    count = min(num_wanted, num_available)
    edges = [int(edge) for edge in np.linspace(0, num_available, count + 1)]
    if generator is None:
        found = [(low + high - 1) // 2 for low, high in pairwise(edges)]
    elif any(high - low < 2 for low, high in pairwise(edges)):  # too short to draw within: any frames, in their order
        found = sorted(torch.randperm(num_available, generator=generator)[:count].tolist())
    else:
        found = [low + int(torch.randint(high - 1 - low, (), generator=generator)) for low, high in pairwise(edges)]
    return found + found[-1:] * (num_wanted - count)


def prepare_frames(
    frames_THWC: Tensor | NDArray[np.uint8],
    *,
    side: int = 224,
    kind: Literal["video", "image"] = "video",
    statistics: Literal["clip", "imagenet"] = "clip",
) -> Tensor:
    """Return normalised pixels as the released tests make them.

    Args:
        frames_THWC: `(T, H, W, 3)` uint8.
        side: of the square pictures.
        kind: "video" resizes the shorter edge and cuts the middle out; "image" resizes both edges and cuts nothing.
        statistics: see `STATISTICS`.

    Returns:
        `(T, 3, side, side)` float32.
    """
    pictures = [Image.fromarray(np.asarray(frame)) for frame in frames_THWC]
    small = [_fitted(picture, side, crop=kind == "video") for picture in pictures]
    pixels_TCHW = torch.from_numpy(np.stack([np.asarray(one) for one in small])).permute(0, 3, 1, 2).contiguous() / 255
    return normalize(pixels_TCHW, STATISTICS[statistics])


def normalize(pixels_TCHW: Tensor, statistics: tuple[Sequence[float], Sequence[float]]) -> Tensor:
    """Return `(T, 3, H, W)` pixels of 0..1 less the mean and divided by the deviation of each channel."""
    mean, deviation = (torch.tensor(values)[:, None, None] for values in statistics)
    return (pixels_TCHW - mean) / deviation


def _fitted(picture: Image.Image, side: int, *, crop: bool) -> Image.Image:
    width, height = picture.size
    if not crop:
        return picture.resize((side, side), Image.Resampling.BICUBIC)
    if width <= height:
        size = (side, int(side * height / width))
    else:
        size = (int(side * width / height), side)
    resized = picture.resize(size, Image.Resampling.BICUBIC)
    left, top = round((size[0] - side) / 2), round((size[1] - side) / 2)
    return resized.crop((left, top, left + side, top + side))


def prepare_pixels(frames_TCHW: Tensor, *, side: int = 224, statistics: Literal["clip", "imagenet"] = "clip") -> Tensor:
    """Return normalised pixels of a clip, or of one picture, as `prepare_frames` makes them.

    Args:
        frames_TCHW: `(T, 3, H, W)`, uint8 or float 0..1, which is rounded to 8 bits first.
        side: of the square pictures.
        statistics: see `STATISTICS`.

    Returns:
        `(T, 3, side, side)` float32.
    """
    frames = frames_TCHW
    if frames.dtype != torch.uint8:
        frames = (frames.float().clamp(0, 1) * 255).round().to(torch.uint8)
    kind: Literal["video", "image"] = "image" if len(frames) == 1 else "video"
    return prepare_frames(frames.permute(0, 2, 3, 1), side=side, kind=kind, statistics=statistics)
