"""Spectrogram patches as they are: no weights, no parameters."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from crema_audio.encoders.base import AudioEncoder, Windows, cut_fbank
from crema_audio.plugin import BAND_DIM, PATCH, PATCH_DIM, TIME_DIM
from crema_audio.sound import Waveform


class PatchEncoder(AudioEncoder):
    """16 x 16 patches with when and at which bands they are.

    Tokens are ordered in time, the 8 bands of one instant together, as BEATs orders them.
    """

    @property
    def feature_dim(self) -> int:
        """Width of a patch with its place."""
        return PATCH_DIM

    def cut(self, sound: Waveform) -> Windows:
        """See `cut_fbank`."""
        return cut_fbank(sound, self.options)

    def forward(self, inputs_BT: Tensor, lengths_BT: Tensor, starts_BT: Tensor) -> tuple[Tensor, Tensor]:
        """See `AudioEncoder`; inputs are `(B, T, F, M)`, F a multiple of 16."""
        rows, bands = inputs_BT.shape[2] // PATCH, inputs_BT.shape[3] // PATCH
        patches = inputs_BT.unflatten(3, (bands, PATCH)).unflatten(2, (rows, PATCH))  # (B, T, rows, 16, bands, 16)
        patches = patches.transpose(3, 4).flatten(4)  # (B, T, rows, bands, 256)
        row = torch.arange(rows, device=inputs_BT.device)
        seconds = starts_BT[..., None] + (row + 0.5) * (PATCH / 100)  # (B, T, rows)
        when = sinusoids(seconds, TIME_DIM, shortest=0.64)[:, :, :, None].expand(-1, -1, -1, bands, -1)
        band = torch.arange(bands, device=inputs_BT.device, dtype=torch.float32)
        where = sinusoids(band, BAND_DIM, shortest=2.0).expand(*patches.shape[:3], -1, -1)
        values = torch.cat([patches, when, where], dim=-1).flatten(2, 3)  # (B, T, N, D)
        mask = (row * PATCH < lengths_BT[..., None]).repeat_interleave(bands, dim=2)
        return values * mask[..., None], mask


def sinusoids(positions: Tensor, width: int, *, shortest: float) -> Tensor:
    """Return sine and cosine of positions, `(..., width)`.

    Args:
        positions: any shape.
        width: even; half of it are wave lengths, from `shortest` up in steps of the square root of two.
        shortest: shortest wave, in the unit of the positions.
    """
    waves = shortest * 2 ** (torch.arange(width // 2, device=positions.device) / 2)
    angles = 2 * math.pi * positions[..., None] / waves
    return torch.cat([angles.sin(), angles.cos()], dim=-1)
