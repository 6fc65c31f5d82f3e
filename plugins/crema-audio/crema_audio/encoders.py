"""Encoders of spectrogram windows, by the name the option `encoder` takes.

A new one is a class and a line in `ENCODERS`.
"""

from __future__ import annotations

import math
from typing import Protocol

import torch
from torch import Tensor, nn

from crema_audio.plugin import BAND_DIM, PATCH, PATCH_DIM, TIME_DIM


class AudioEncoder(Protocol):
    """What an encoder offers; B sounds, T windows, F frames of 10 ms, M mel bands, N tokens, D width."""

    feature_dim: int

    def __call__(self, fbank_BTFM: Tensor, num_frames_BT: Tensor, starts_BT: Tensor) -> tuple[Tensor, Tensor]:
        """Encode windows.

        Args:
            fbank_BTFM: `(B, T, F, M)` normalised filter banks, F a multiple of 16.
            num_frames_BT: `(B, T)` real frames of each window.
            starts_BT: `(B, T)` seconds, where each window begins.

        Returns:
            `(B, T, N, D)` and a mask `(B, T, N)` of tokens that cover real sound.
        """
        ...


class PatchEncoder(nn.Module):
    """16 x 16 patches as they are, with when and at which bands they are; no parameters.

    Tokens are ordered in time, the 8 bands of one instant together, as BEATs orders them.
    """

    feature_dim = PATCH_DIM

    def forward(self, fbank_BTFM: Tensor, num_frames_BT: Tensor, starts_BT: Tensor) -> tuple[Tensor, Tensor]:
        """See `AudioEncoder`."""
        rows, bands = fbank_BTFM.shape[2] // PATCH, fbank_BTFM.shape[3] // PATCH
        patches = fbank_BTFM.unflatten(3, (bands, PATCH)).unflatten(2, (rows, PATCH))  # (B, T, rows, 16, bands, 16)
        patches = patches.transpose(3, 4).flatten(4)  # (B, T, rows, bands, 256)
        row = torch.arange(rows, device=fbank_BTFM.device)
        seconds = starts_BT[..., None] + (row + 0.5) * (PATCH / 100)  # (B, T, rows)
        when = sinusoids(seconds, TIME_DIM, shortest=0.64)[:, :, :, None].expand(-1, -1, -1, bands, -1)
        band = torch.arange(bands, device=fbank_BTFM.device, dtype=torch.float32)
        where = sinusoids(band, BAND_DIM, shortest=2.0).expand(*patches.shape[:3], -1, -1)
        values = torch.cat([patches, when, where], dim=-1).flatten(2, 3)  # (B, T, N, D)
        mask = (row * PATCH < num_frames_BT[..., None]).repeat_interleave(bands, dim=2)
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


ENCODERS: dict[str, type[PatchEncoder]] = {"patches": PatchEncoder}
