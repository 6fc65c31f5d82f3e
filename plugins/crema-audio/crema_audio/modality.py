"""The audio sense: windows of log-mel filter banks, encoded with time stamps."""

from __future__ import annotations

import math
from pathlib import Path

import torch
from torch import Tensor

from crema_audio.encoders import ENCODERS, BeatsEncoder, window_frames
from crema_audio.fbank import FRAMES_PER_S, SAMPLE_RATE_HZ, normalized_fbank
from crema_audio.plugin import PATCH, SPEC, AudioOptions
from crema_core.data.media import read_sound
from crema_core.modality import Batch, BuildContext, Features, Modality, Sample


class AudioModality(Modality):
    """Sounds of any rate, length and number of channels; every window is one step in time."""

    spec = SPEC
    options: AudioOptions

    def __init__(self, options: AudioOptions, context: BuildContext) -> None:
        super().__init__(options, context)
        self.encoder = ENCODERS[options.encoder](options)

    @property
    def feature_dim(self) -> int:
        """Width of the chosen encoder's tokens."""
        return self.encoder.feature_dim

    def load_assets(self, folder: Path | None) -> None:
        """Load the weights of an encoder that has some."""
        if isinstance(self.encoder, BeatsEncoder):
            self.encoder.load()

    def prepare(self, source: object) -> Sample:
        """Read a sound and cut it into windows.

        Args:
            source: a sound or video file, an array at 16 kHz, or a pair `(array, rate_hz)`; see core's `read_sound`.

        Returns:
            `fbank` `(T, F, 128)`, F a multiple of 16, zero behind the sound's end; `num_frames` `(T,)` real frames;
            times `(T, 2)` on the clock of the file.

        Raises:
            MediaError: when the source is absent, empty, damaged, of another type or without sound.
        """
        options = self.options
        sound = read_sound(source, sample_rate_hz=SAMPLE_RATE_HZ, start_s=options.start_s, end_s=options.end_s)
        fbank = normalized_fbank(sound.samples)  # (frames, 128)
        length = window_frames(options.window_s)
        starts = window_starts(len(fbank), length, options.num_windows, options.placement)
        kept = min(length, math.ceil(len(fbank) / PATCH) * PATCH)
        windows = [fbank[start : start + length] for start in starts]
        padded = [torch.nn.functional.pad(window, (0, 0, 0, kept - len(window))) for window in windows]
        spans = [
            (sound.start_s + start / FRAMES_PER_S, sound.start_s + (start + len(window)) / FRAMES_PER_S)
            for start, window in zip(starts, windows, strict=True)
        ]
        num_frames = torch.tensor([len(window) for window in windows])
        return Sample({"fbank": torch.stack(padded), "num_frames": num_frames}, torch.tensor(spans))

    def encode(self, batch: Batch) -> Features:
        """Encode every window: `(B, T, F, 128)` -> `(B, T, N, D)`, mask `(B, T, N)`."""
        assert batch.times is not None, "prepare gives every sample times"
        values, mask = self.encoder(batch["fbank"], batch["num_frames"], batch.times[..., 0])
        return Features(values, mask & batch.mask[..., None], batch.times)

    def example(self, generator: torch.Generator) -> Tensor:
        """Return a second of a decaying tone of 200 to 2000 Hz in noise, `(16000,)`."""
        seconds = torch.arange(SAMPLE_RATE_HZ) / SAMPLE_RATE_HZ
        pitch_hz = 200 * 10 ** float(torch.rand((), generator=generator))
        tone = torch.sin(2 * math.pi * pitch_hz * seconds) * torch.exp(-3 * seconds)
        return 0.5 * tone + 0.01 * torch.randn(SAMPLE_RATE_HZ, generator=generator)


def window_starts(num_frames: int, length: int, num_windows: int, placement: str) -> list[int]:
    """Return where windows begin, in frames: one after the other while the sound lasts, else as `placement` says.

    >>> window_starts(250, 100, 4, "spread")
    [0, 100, 200]
    >>> window_starts(1000, 100, 3, "spread")
    [0, 450, 900]
    >>> window_starts(1000, 100, 3, "first")
    [0, 100, 200]
    """
    needed = max(math.ceil(num_frames / length), 1)
    if needed <= num_windows or placement == "first":
        return [index * length for index in range(min(needed, num_windows))]
    if num_windows == 1:
        return [(num_frames - length) // 2]
    return [(num_frames - length) * index // (num_windows - 1) for index in range(num_windows)]
