"""A sound as a picture: the spectrogram of all of it, and of every part that is listened to."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor
from torch.nn.functional import adaptive_max_pool1d, interpolate

from crema_audio.encoders.base import fbank_part
from crema_audio.fbank import FBANK_STD, FRAMES_PER_S, LOWEST_HZ, SAMPLE_RATE_HZ, count_frames
from crema_audio.sound import LONG_S, Waveform
from crema_core.data.media import colorize, middle_indices
from crema_core.data.sheet import line, scale_bar, sheet, stack

WIDTH, BAR_PX = 900, 18
"""Pixels across the spectrogram of the whole sound; height of a bar that marks a window."""
PART_WIDTH, PART_HEIGHT, MOST_PARTS = 440, 128, 64
COLUMN_S = 0.5
"""Of a sound that lasts longer than `LONG_S` each column shows so much."""
BLOCK_FRAMES = 6000
TEXT_PX, INK, PAPER, BLUE = 18, (40, 40, 40), (255, 255, 255), (51, 102, 204)
SHOWN = 1.2
"""Normalised filter banks from minus this to this are drawn."""
SHOWN_DB = 2 * SHOWN * 2 * FBANK_STD * 10 / math.log(10)
PITCHES = ((100, "100 Hz"), (500, "500 Hz"), (1000, "1 kHz"), (2000, "2 kHz"), (4000, "4 kHz"), (8000, "8 kHz"))
STEPS = (1, 2, 5)
"""Marks on the axis of time are so many seconds apart, times a power of ten."""
Span = tuple[float, float]


def draw_sound(sound: Waveform, spans: Sequence[Span]) -> Tensor:
    """Return `(H, W, 3)` uint8: the spectrogram of the sound (low notes below), the windows as bars under it, and each.

    Args:
        sound: at 16 kHz.
        spans: start and end of every window that is listened to, in seconds of the sound.

    Raises:
        MediaError: when the sound cannot be read.
    """
    lasts_s = sound.num_samples / SAMPLE_RATE_HZ
    marks = [(at / lasts_s, text) for at, text in time_marks(sound.start_s, lasts_s)]
    pitches = [(_height(hertz), text) for hertz, text in PITCHES]
    panels = [with_axes(_bytes(_spectrogram(_columns(sound), WIDTH, 256)), marks, pitches), _bars(spans, lasts_s)]
    panels.append(line(f"blue: what is listened to, {describe_windows(spans, lasts_s)}"))
    panels.append(line(f"above: the whole sound, low notes below{_resolution(lasts_s)}"))
    if lasts_s > WIDTH / FRAMES_PER_S:
        panels += _parts(sound, spans)
    return stack([*panels, scale_bar("inferno", "quiet", f"loud, {SHOWN_DB:.0f} dB above")])


def describe_windows(spans: Sequence[Span], lasts_s: float) -> str:
    """Return how much is listened to: "2 windows, 10.24 of 61.00 s (17 %)".

    >>> describe_windows([(0.0, 1.0), (0.5, 1.5)], 3.0)
    '2 windows, 1.50 of 3.00 s (50 %)'
    """
    covered, until = 0.0, 0.0
    for start, end in sorted(spans):
        covered += max(end - max(start, until), 0.0)
        until = max(until, end)
    covered = min(covered, lasts_s)
    if covered > lasts_s - 0.03:  # filter banks need 25 ms for their last frame
        covered = lasts_s
    windows = "1 window" if len(spans) == 1 else f"{len(spans)} windows"
    return f"{windows}, {covered:.2f} of {lasts_s:.2f} s ({100 * covered / lasts_s:.0f} %)"


def time_marks(start_s: float, lasts_s: float, *, most: int = 8) -> list[tuple[float, str]]:
    """Return where round times are, in seconds from the beginning of what is drawn, and their texts.

    >>> time_marks(1.5, 4.0)
    [(0.5, '2 s'), (1.5, '3 s'), (2.5, '4 s'), (3.5, '5 s')]
    """
    power = 10.0 ** math.floor(math.log10(lasts_s / most))
    step = next(own * power for own in (*STEPS, 10) if lasts_s / (own * power) <= most)
    first, last = math.ceil(start_s / step - 1e-6), math.floor((start_s + lasts_s) / step + 1e-6)
    decimals = max(-math.floor(math.log10(step) + 1e-6), 0)
    return [(number * step - start_s, f"{number * step:.{decimals}f} s") for number in range(first, last + 1)]


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


def _resolution(lasts_s: float) -> str:
    """Return what a column of the whole sound shows where it is not one frame."""
    column_s = 2 * lasts_s / WIDTH
    if lasts_s > LONG_S:
        return f"; of every {column_s:.3g} s the loudest moment of {COLUMN_S:g} s in their middle"
    return f"; of every {column_s:.2g} s the loudest moment" if lasts_s > WIDTH / FRAMES_PER_S else ""


def _bars(spans: Sequence[Span], lasts_s: float, *, margin: int = 56) -> Tensor:
    """Return the windows as numbered bars under the sound, in two rows where they overlap."""
    overlap = any(start < end - 1e-6 for (_, end), (start, _) in pairwise(spans))
    rows = 2 if overlap else 1
    canvas = Image.new("RGB", (WIDTH + 2 * margin, rows * (BAR_PX + 2) + 8), PAPER)
    draw, font = ImageDraw.Draw(canvas), ImageFont.load_default(size=13)
    for number, (start, end) in enumerate(spans):
        left, right = (margin + min(instant / lasts_s, 1.0) * (WIDTH - 1) for instant in (start, end))
        top = (number % rows) * (BAR_PX + 2)
        draw.rectangle((left, top, max(right - 1, left + 1), top + BAR_PX), fill=BLUE)
        text = str(number + 1)
        if right - left > draw.textlength(text, font=font) + 4:
            draw.text(((left + right) / 2, top + BAR_PX / 2), text, fill=PAPER, font=font, anchor="mm")
    return torch.from_numpy(np.array(canvas))


def _parts(sound: Waveform, spans: Sequence[Span]) -> list[Tensor]:
    """Return the spectrogram of every window, of very many an even part, each with its time."""
    kept = middle_indices(len(spans), min(len(spans), MOST_PARTS))
    total = count_frames(sound.num_samples)
    pictures = []
    for start, end in (spans[index] for index in kept):
        first = min(round(start * FRAMES_PER_S), total - 1)
        last = min(max(round(end * FRAMES_PER_S), first + 1), total)
        pictures.append(_spectrogram(fbank_part(sound, first, last), PART_WIDTH, PART_HEIGHT))
    captions = [
        f"window {index + 1}: {sound.start_s + spans[index][0]:.2f}-{sound.start_s + spans[index][1]:.2f} s"
        for index in kept
    ]
    some = [line(f"{len(kept)} of the {len(spans)} windows:")] if len(kept) < len(spans) else []
    return [*some, sheet(torch.stack(pictures), captions, height=PART_HEIGHT, columns=2)]


def _columns(sound: Waveform) -> Tensor:
    """Return filter banks `(columns or fewer, 128)` over all of a sound."""
    total, columns = count_frames(sound.num_samples), WIDTH // 2
    if sound.num_samples > LONG_S * SAMPLE_RATE_HZ:
        shown = round(COLUMN_S * FRAMES_PER_S)
        starts = [index - shown // 2 for index in middle_indices(total, columns)]
        return torch.stack([fbank_part(sound, start, start + shown).amax(dim=0) for start in starts])
    blocks = [fbank_part(sound, first, min(first + BLOCK_FRAMES, total)) for first in range(0, total, BLOCK_FRAMES)]
    fbank = torch.cat(blocks)
    return adaptive_max_pool1d(fbank.T[None], columns)[0].T if len(fbank) > columns else fbank


def _spectrogram(fbank: Tensor, width: int, height: int) -> Tensor:
    """Return colours `(3, height, width)` of filter banks `(F, 128)`, time to the right, high notes above."""
    picture = colorize(((fbank + SHOWN) / (2 * SHOWN)).T.flip(0)[None], "inferno")
    return interpolate(picture, size=(height, width), mode="nearest")[0]


def _height(hertz: float) -> float:
    """Return where a pitch is in the spectrogram, as a share of its height: bands are equally wide in mel."""
    low, high, pitch = (1127 * math.log(1 + value / 700) for value in (LOWEST_HZ, SAMPLE_RATE_HZ / 2, hertz))
    return (pitch - low) / (high - low)


def _bytes(picture_CHW: Tensor) -> Tensor:
    return (picture_CHW.clamp(0, 1) * 255).round().byte().permute(1, 2, 0).contiguous()
