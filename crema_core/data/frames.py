"""Read RGB frames from whatever holds them: a clip, a picture, a folder or list of pictures, or memory."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn.functional import interpolate

from crema_core.data.clips import CLIP_SUFFIXES, Clip, read_clip
from crema_core.data.files import check_file, wrong_source
from crema_core.data.images import IMAGE_SUFFIXES, read_image
from crema_core.data.sampling import Pick, middle_indices
from crema_core.data.span import split_span
from crema_core.data.stacks import read_stack
from crema_core.errors import MediaError

FRAME_SUFFIXES = (*CLIP_SUFFIXES, *IMAGE_SUFFIXES)


def read_frames(
    source: object,
    *,
    num_frames: int,
    start_s: float | None = None,
    end_s: float | None = None,
    fps: float | None = None,
    pick: Pick = middle_indices,
) -> Clip:
    """Read RGB frames, by default the middle ones of equal segments.

    Args:
        source: a clip file (`a.mp4#t=1,2` is a part of it), a picture file, a folder or list of pictures, a PIL image,
            or an array or tensor `(T, H, W, 3)`, `(T, 3, H, W)`, `(H, W, 3)` or `(3, H, W)`, uint8 0..255 or float
            0..1.
        num_frames: frames returned from a source with several; a single picture stays single (T = 1).
        start_s, end_s: part of a clip file in seconds; refused for sources without a clock.
        fps: frames per second of a clip file instead, at most `num_frames`; refused for sources without a clock.
        pick: which of the frames are taken.

    Returns:
        Frames `(T, 3, H, W)`; times only for clip files.

    Raises:
        MediaError: when the source is absent, empty, damaged, of another type, or has no clock but a part was asked.
    """
    if isinstance(source, str | os.PathLike):
        source, start_s, end_s = split_span(str(source)).within(start_s, end_s)
        path = Path(source)
        if path.suffix.lower() in CLIP_SUFFIXES and not path.is_dir():
            return read_clip(path, num_frames=num_frames, start_s=start_s, end_s=end_s, fps=fps, pick=pick)
        if not path.is_dir():
            check_file(path, what="a clip or picture", suffixes=FRAME_SUFFIXES)
    if fps is not None:
        raise MediaError(
            f"fps={fps:g} was given for pictures without a clock. It needs a clip file. Leave it out, or pass a clip "
            "file."
        )
    if start_s is not None or end_s is not None:
        raise MediaError(
            "start_s and end_s were given for pictures without a clock. They need a clip file. Leave them out, or pass "
            "only the pictures of that part."
        )
    if isinstance(source, Image.Image):
        source = np.array(source.convert("RGB"))
    if isinstance(source, np.ndarray):
        source = torch.from_numpy(np.ascontiguousarray(source))
    if isinstance(source, Tensor):
        frames = _channels_first(source)
        return Clip(frames if len(frames) == 1 else frames[pick(len(frames), num_frames)], None)
    readers = dict.fromkeys(IMAGE_SUFFIXES, read_image)
    stack = read_stack(source, what="a picture", readers=readers, num_frames=num_frames, channels=3, pick=pick)
    return Clip(torch.from_numpy(stack).permute(0, 3, 1, 2).contiguous(), None)


def resize(frames: Tensor, size: int) -> Tensor:
    """Resize to squares, antialiased.

    Args:
        frames: `(T, C, H, W)`, uint8 0..255 or float 0..1.
        size: side in pixels.

    Returns:
        `(T, C, size, size)` float32 0..1.
    """
    values = frames.float() / 255 if frames.dtype == torch.uint8 else frames.float()
    if values.shape[-2:] == (size, size):
        return values
    resized = interpolate(values, size=(size, size), mode="bicubic", antialias=True, align_corners=False)
    return resized.clamp(0, 1)  # bicubic overshoots at edges


def _channels_first(frames: Tensor) -> Tensor:
    batch = frames[None] if frames.dim() == 3 else frames
    if batch.dim() == 4 and batch.shape[-1] == 3:
        batch = batch.permute(0, 3, 1, 2)
    legal = batch.dim() == 4 and batch.shape[1] == 3 and batch.numel() > 0
    if not legal or (frames.dtype != torch.uint8 and not frames.is_floating_point()):
        raise wrong_source(
            frames,
            what="a clip or picture",
            accepted="(T, H, W, 3), (T, 3, H, W), (H, W, 3) or (3, H, W), uint8 0..255 or float 0..1",
            advice="Change the layout.",
        )
    if frames.is_floating_point() and not (frames.min() >= 0 and frames.max() <= 1):
        raise MediaError(
            f"Pixels came as floats from {float(frames.min()):g} to {float(frames.max()):g}. Float pixels are in 0..1. "
            "Divide by 255, or pass uint8."
        )
    return batch.detach().cpu().contiguous()
