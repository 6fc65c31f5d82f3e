"""A sound as a picture: its spectrogram, and which parts of it are listened to."""

from __future__ import annotations

import torch
from torch import Tensor

from crema_audio.encoders.base import cut_fbank
from crema_audio.fbank import FRAMES_PER_S, SAMPLE_RATE_HZ, normalized_fbank
from crema_audio.plugin import AudioOptions
from crema_core.data.media import colorize, open_sound
from crema_core.report.sheet import line, sheet, stack

LONGEST_S = 60.0
WIDTH, WINDOW_PX = 900, 8


def draw_sound(source: object, options: AudioOptions) -> Tensor:
    """Return `(H, W, 3)` uint8: the spectrogram (low notes below) and the windows as bars under it.

    Args:
        source: as `AudioModality.prepare`.
        options: which part and which windows.

    Raises:
        MediaError: when the source cannot be read.
    """
    sound = open_sound(source, sample_rate_hz=SAMPLE_RATE_HZ, start_s=options.start_s, end_s=options.end_s)
    shown = sound.part(0, min(sound.num_samples, round(LONGEST_S * SAMPLE_RATE_HZ)))
    fbank = normalized_fbank(shown)  # (frames, 128)
    picture = colorize(((fbank + 1.2) / 2.4).T.flip(0)[None], "inferno")  # (1, 3, 128, frames)
    columns = torch.linspace(0, len(fbank) - 1, WIDTH // 2).round().long()
    spectrogram = picture[..., columns]
    seconds = len(fbank) / FRAMES_PER_S
    bars = torch.ones(1, 3, WINDOW_PX * 2, WIDTH)
    spans = cut_fbank(sound, options).spans_s
    for number, (start, end) in enumerate(spans):
        left, right = (min(round(instant / seconds * WIDTH), WIDTH) for instant in (start, end))
        row = WINDOW_PX * (number % 2)
        bars[0, :, row + 1 : row + WINDOW_PX - 1, left : max(right - 1, left + 1)] = torch.tensor([0.2, 0.4, 0.8])[
            :, None, None
        ]
    first, more = sound.start_s, " (longer, cut here)" if len(shown) < sound.num_samples else ""
    note = f"{first:.2f} s to {first + seconds:.2f} s{more}; 20 Hz below, 8 kHz above; blue: {len(spans)} window(s)"
    return stack([sheet(spectrogram, height=256), sheet(bars, height=2 * WINDOW_PX), line(note)])
