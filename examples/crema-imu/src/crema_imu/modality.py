"""The modality: recordings -> windows -> features of a small encoder, frozen or trained.

Shape letters: B samples, T windows, P points of a window, C = 6 channels, D = 64 features.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from crema_core import Batch, BuildContext, Features, Modality, Sample
from crema_imu.plugin import ImuOptions
from crema_imu.recording import as_recording

POINTS = 16
SCALE = (3.0, 3.0, 3.0, 1.0, 1.0, 1.0)
"""Divisors per channel: m/s² after the mean of the vertical axis is taken away, rad/s."""
GRAVITY = 9.81


class ImuModality(Modality):
    """Windows of motion.

    The "random" encoder is frozen: fixed random features of the shape of a window, beside its mean and spread. It holds
    no weights that need saving, because the generator's seed is part of its definition. The "learned" one is a small
    network that core trains, saves and shares with the adapter.
    """

    options: ImuOptions

    def __init__(self, options: ImuOptions, context: BuildContext) -> None:
        super().__init__(options, context)
        if options.encoder == "learned":
            width = POINTS * 6
            self.net = nn.Sequential(nn.Linear(width, 128), nn.GELU(), nn.Linear(128, self.feature_dim))
            return
        generator = torch.Generator().manual_seed(7)
        self.mix = nn.Parameter(
            torch.randn(POINTS * 6, self.feature_dim - 12, generator=generator) / (POINTS * 6) ** 0.5
        )

    @property
    def trainable(self) -> bool:
        """Whether the encoder is trained: an option chooses."""
        return self.options.encoder == "learned"

    def prepare(self, source: object) -> Sample:
        """Cut a recording into windows: `windows` `(T, P, C)`, times from its beginning."""
        recording = as_recording(source)
        times, values = recording[:, 0] - recording[0, 0], recording[:, 1:].clone()
        values[:, 2] -= GRAVITY
        count = min(max(int(times[-1] / self.options.window_s), 1), self.options.max_windows)
        starts = torch.arange(count) * self.options.window_s
        grid = starts[:, None] + torch.linspace(0, self.options.window_s, POINTS)[None]  # (T, P)
        nearest = torch.searchsorted(times, grid).clamp(max=len(times) - 1)
        windows = values[nearest] / torch.tensor(SCALE)  # (T, P, C)
        return Sample({"windows": windows}, torch.stack((starts, starts + self.options.window_s), dim=1))

    def encode(self, batch: Batch) -> Features:
        """Return `(B, T, 1, D)`: of every window what was learned, or means, spreads and random features."""
        windows = batch["windows"]  # (B, T, P, C)
        if self.trainable:
            return Features(self.net(windows.flatten(2))[:, :, None], batch.mask, batch.times)
        shape = torch.tanh(windows.flatten(2) @ self.mix)  # (B, T, D - 12)
        mean = windows.mean(2)
        spread = (windows - mean[:, :, None]).square().mean(2).sqrt()
        features = torch.cat((mean, spread, shape), dim=-1)
        return Features(features[:, :, None], batch.mask, batch.times)

    def example(self, generator: torch.Generator) -> Tensor:
        """Return two seconds at 50 Hz of noise around gravity, `(100, 7)`."""
        recording = torch.randn(100, 7, generator=generator)
        recording[:, 0] = torch.arange(100) / 50
        recording[:, 3] += GRAVITY
        return recording
