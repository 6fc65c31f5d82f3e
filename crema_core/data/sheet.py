"""Pictures a person looks at: frames side by side with a line of text below each, panels below one another."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from crema_core.data.images import ColormapName, colorize
from crema_core.data.sampling import middle_indices

TEXT_PX, GAP_PX = 18, 6
LARGE_SHOWN, MOST_SHOWN = 16, 64
"""So many frames are drawn large, and so many at all."""
INK, EDGE, PAPER = (40, 40, 40), (190, 190, 190), (255, 255, 255)


def sheet(frames_TCHW: Tensor, captions: Sequence[str] = (), *, height: int = 224, columns: int = 4) -> Tensor:
    """Arrange frames in rows.

    Args:
        frames_TCHW: `(T, 3, H, W)`, uint8 0..255 or float 0..1.
        captions: one per frame, or none.
        height: of every frame in pixels; small frames are enlarged without smoothing.
        columns: frames per row.

    Returns:
        `(rows, columns, 3)` uint8 pixels.
    """
    pictures = [_enlarged(frame, height) for frame in frames_TCHW]
    texts = [math.ceil(_length(text)) for text in captions]
    width = max(pictures[0].width, *texts) if texts else pictures[0].width
    across = min(columns, len(pictures))
    down = math.ceil(len(pictures) / across)
    text = TEXT_PX if captions else 0
    canvas = Image.new("RGB", (across * (width + GAP_PX) + GAP_PX, down * (height + text + GAP_PX) + GAP_PX), PAPER)
    draw = ImageDraw.Draw(canvas)
    for number, picture in enumerate(pictures):
        row, column = divmod(number, across)
        left, top = GAP_PX + column * (width + GAP_PX), GAP_PX + row * (height + text + GAP_PX)
        canvas.paste(picture, (left, top))
        draw.rectangle((left - 1, top - 1, left + picture.width, top + height), outline=EDGE)
        if captions:
            draw.text((left, top + height + 2), captions[number], fill=INK, font=_font())
    return _pixels(canvas)


def frames_panel(frames_TCHW: Tensor, captions: Sequence[str], *, has_times: bool = True) -> Tensor:
    """Arrange the frames a modality takes, smaller ones where they are many, and say how many they are.

    Args:
        frames_TCHW: `(T, 3, H, W)`, uint8 0..255 or float 0..1; of more than `MOST_SHOWN` an even part is drawn.
        captions: one per frame.
        has_times: whether these are times.

    Returns:
        `(rows, columns, 3)` uint8 pixels.
    """
    total = len(frames_TCHW)
    are = "1 frame is" if total == 1 else f"{total} frames are"
    shown = middle_indices(total, min(total, MOST_SHOWN))
    height, columns = (224, 4) if len(shown) <= LARGE_SHOWN else (112, 8)
    panel = sheet(frames_TCHW[shown], [captions[index] for index in shown], height=height, columns=columns)
    notes = [f"{len(shown)} of them are drawn"] if len(shown) < total else []
    notes += ["below each is the time it stands for"] if has_times else []
    return stack([panel, line(", ".join([f"{are} taken", *notes]))]) if notes else panel


def stack(panels: Sequence[Tensor]) -> Tensor:
    """Put panels `(H, W, 3)` uint8 below one another on white; returns `(H, W, 3)`."""
    width = max(panel.shape[1] for panel in panels)
    padded = []
    for panel in panels:
        wide = torch.full((panel.shape[0], width, 3), 255, dtype=torch.uint8)
        wide[:, : panel.shape[1]] = panel
        padded.append(wide)
    return torch.cat(padded)


def line(text: str) -> Tensor:
    """Return a line of text as a panel `(24, W, 3)` uint8, W as long as the text."""
    width = math.ceil(_length(text))
    canvas = Image.new("RGB", (width + 2 * GAP_PX, TEXT_PX + GAP_PX), PAPER)
    ImageDraw.Draw(canvas).text((GAP_PX, GAP_PX // 2), text, fill=INK, font=_font())
    return _pixels(canvas)


def scale_bar(colormap: ColormapName, low: str, high: str, *, width: int = 360) -> Tensor:
    """Return the colours of a map from its lower to its upper end, with what they stand for."""
    colors = colorize(torch.linspace(0, 1, width).expand(1, 14, -1), colormap)[0]
    canvas = Image.new("RGB", (width + 2 * GAP_PX, 14 + TEXT_PX + 2 * GAP_PX), PAPER)
    canvas.paste(_picture(colors), (GAP_PX, GAP_PX))
    draw = ImageDraw.Draw(canvas)
    draw.text((GAP_PX, 14 + GAP_PX), low, fill=INK, font=_font())
    end = draw.textlength(high, font=_font())
    draw.text((width + GAP_PX - end, 14 + GAP_PX), high, fill=INK, font=_font())
    return _pixels(canvas)


def times_as_captions(times_T2: Tensor | None, num_frames: int) -> list[str]:
    """Return "0.00-0.50 s" for every frame, or its number where there is no clock."""
    if times_T2 is None:
        return [f"{number + 1} of {num_frames}" for number in range(num_frames)]
    return [f"{start:.2f}-{end:.2f} s" for start, end in times_T2.tolist()]


def _enlarged(frame_CHW: Tensor, height: int) -> Image.Image:
    picture = _picture(frame_CHW)
    width = max(round(picture.width * height / picture.height), 1)
    how = Image.Resampling.NEAREST if picture.height < height else Image.Resampling.BICUBIC
    return picture.resize((width, height), how)


def _picture(frame_CHW: Tensor) -> Image.Image:
    values = frame_CHW if frame_CHW.dtype == torch.uint8 else (frame_CHW.float().clamp(0, 1) * 255).round().byte()
    return Image.fromarray(values.permute(1, 2, 0).contiguous().numpy())


def _length(text: str) -> float:
    return ImageDraw.Draw(Image.new("RGB", (1, 1))).textlength(text, font=_font())


def _pixels(picture: Image.Image) -> Tensor:
    return torch.from_numpy(np.array(picture))


def _font() -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size=13)
