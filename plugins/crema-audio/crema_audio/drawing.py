"""A sound as a picture: its spectrogram, and which parts of it are listened to."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from crema_audio.encoders.base import cut_fbank
from crema_audio.fbank import FBANK_STD, FRAMES_PER_S, LOWEST_HZ, SAMPLE_RATE_HZ, normalized_fbank
from crema_audio.level import leveled
from crema_audio.plugin import AudioOptions
from crema_audio.sound import open_sound
from crema_core.data.media import colorize, name_of
from crema_core.data.sheet import line, scale_bar, stack

LONGEST_S = 60.0
WIDTH, WINDOW_PX = 900, 8
TEXT_PX, INK, PAPER = 18, (40, 40, 40), (255, 255, 255)
SHOWN = 1.2
"""Normalised filter banks from minus this to this are drawn."""
SHOWN_DB = 2 * SHOWN * 2 * FBANK_STD * 10 / math.log(10)
PITCHES = ((100, "100 Hz"), (500, "500 Hz"), (1000, "1 kHz"), (2000, "2 kHz"), (4000, "4 kHz"), (8000, "8 kHz"))


def draw_sound(source: object, options: AudioOptions) -> Tensor:
    """Return `(H, W, 3)` uint8: the spectrogram (low notes below) and the windows as bars under it.

    Args:
        source: as `AudioModality.prepare`.
        options: which part and which windows.

    Raises:
        MediaError: when the source cannot be read.
    """
    sound = open_sound(source, sample_rate_hz=SAMPLE_RATE_HZ, start_s=options.start_s, end_s=options.end_s)
    sound = leveled(sound, full_scale=options.full_scale, name=name_of(source))
    shown = sound.part(0, min(sound.num_samples, round(LONGEST_S * SAMPLE_RATE_HZ)))
    fbank = normalized_fbank(shown)  # (frames, 128)
    picture = colorize(((fbank + SHOWN) / (2 * SHOWN)).T.flip(0)[None], "inferno")  # (1, 3, 128, frames)
    columns = torch.linspace(0, len(fbank) - 1, WIDTH // 2).round().long()
    spectrogram = picture[..., columns.repeat_interleave(2)].repeat_interleave(2, dim=-2)[0]
    seconds = len(fbank) / FRAMES_PER_S
    bars = torch.ones(1, 3, WINDOW_PX * 2, WIDTH)
    spans = cut_fbank(sound, options).spans_s
    for number, (start, end) in enumerate(spans):
        left, right = (min(round(instant / seconds * WIDTH), WIDTH) for instant in (start, end))
        row = WINDOW_PX * (number % 2)
        bars[0, :, row + 1 : row + WINDOW_PX - 1, left : max(right - 1, left + 1)] = torch.tensor([0.2, 0.4, 0.8])[
            :, None, None
        ]
    marks = [(share, f"{sound.start_s + share * seconds:.2f} s") for share in (0, 0.25, 0.5, 0.75, 1)]
    pitches = [(_height(hertz), text) for hertz, text in PITCHES]
    panels = [with_axes(_bytes(spectrogram), marks, pitches), with_axes(_bytes(bars[0]), [], [])]
    cut = ", the rest of the sound is not drawn" if len(shown) < sound.num_samples else ""
    windows = "1 window" if len(spans) == 1 else f"{len(spans)} windows"
    loudness = scale_bar("inferno", "quiet", f"loud, {SHOWN_DB:.0f} dB above")
    return stack([*panels, loudness, line(f"blue: what is listened to, {windows}{cut}")])


def with_axes(
    panel: Tensor, across: Sequence[tuple[float, str]], up: Sequence[tuple[float, str]], *, margin: int = 56
) -> Tensor:
    """Draw a picture with marks and numbers on its left and lower edges.

    Args:
        panel: `(H, W, 3)` uint8.
        across: share of the width from the left, and its text, of every mark below.
        up: share of the height from the lower edge, and its text, of every mark on the left.
        margin: pixels left and right of the picture.

    Returns:
        `(H + 34, W + 2 * margin, 3)` uint8.
    """
    height, width, _ = panel.shape
    canvas = Image.new("RGB", (width + 2 * margin, height + TEXT_PX + 16), PAPER)
    top = 10
    canvas.paste(Image.fromarray(panel.numpy()), (margin, top))
    draw, font = ImageDraw.Draw(canvas), ImageFont.load_default(size=13)
    for share, text in across:
        x = margin + share * (width - 1)
        draw.line((x, height + top, x, height + top + 4), fill=INK)
        draw.text((x - draw.textlength(text, font=font) / 2, height + top + 5), text, fill=INK, font=font)
    for share, text in up:
        y = top + (1 - share) * (height - 1)
        draw.line((margin - 5, y, margin - 1, y), fill=INK)
        draw.text((margin - 8 - draw.textlength(text, font=font), y - 8), text, fill=INK, font=font)
    return torch.from_numpy(np.array(canvas))


def _height(hertz: float) -> float:
    """Return where a pitch is in the spectrogram, as a share of its height: bands are equally wide in mel."""
    low, high, pitch = (1127 * math.log(1 + value / 700) for value in (LOWEST_HZ, SAMPLE_RATE_HZ / 2, hertz))
    return (pitch - low) / (high - low)


def _bytes(picture_CHW: Tensor) -> Tensor:
    return (picture_CHW.clamp(0, 1) * 255).round().byte().permute(1, 2, 0).contiguous()
