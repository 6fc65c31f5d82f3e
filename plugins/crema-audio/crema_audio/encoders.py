"""Encoders of spectrogram windows, by the name the option `encoder` takes.

A new one is a class and a line in `ENCODERS`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Protocol

import torch
from torch import Tensor, nn

from crema_audio.beats import Beats, BeatsConfig, load_beats
from crema_audio.fbank import FRAMES_PER_S
from crema_audio.plugin import BAND_DIM, PATCH, PATCH_DIM, TIME_DIM, AudioOptions
from crema_core.errors import AssetError


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


class BeatsEncoder(nn.Module):
    """The paper's encoder; every window is padded with zeros to its full length, as BEATs was trained.

    Args:
        options: of the sense; `weights` names the released checkpoint.
    """

    def __init__(self, options: AudioOptions) -> None:
        super().__init__()
        self.window_frames = window_frames(options.window_s)
        self.weights = options.weights
        self.model: Beats | None = None

    @property
    def feature_dim(self) -> int:
        """Width of the checkpoint's tokens; 768, the released one's, before it is loaded."""
        config = self.model.config if self.model is not None else BeatsConfig()
        return config.encoder_embed_dim

    def load(self) -> None:
        """Load the weights.

        Raises:
            AssetError: when no file is named or it cannot be used.
        """
        if self.weights is None:
            raise AssetError(
                "encoder='beats' was chosen without weights. It needs the released checkpoint, for example "
                "BEATs_iter3_plus_AS2M.pt. Download it and pass {'name': 'audio', 'encoder': 'beats', "
                "'weights': 'path/to/BEATs_iter3_plus_AS2M.pt'}."
            )
        self.model = load_beats(self.weights)

    def forward(self, fbank_BTFM: Tensor, num_frames_BT: Tensor, starts_BT: Tensor) -> tuple[Tensor, Tensor]:
        """See `AudioEncoder`; all tokens of a real window count."""
        assert self.model is not None, "load_assets loads it"
        missing = self.window_frames - fbank_BTFM.shape[2]
        windows = nn.functional.pad(fbank_BTFM, (0, 0, 0, max(missing, 0))).flatten(0, 1)
        real = num_frames_BT.flatten() > 0
        some = self.model(windows[real])
        values = some.new_zeros(len(windows), *some.shape[1:]).index_put((real.nonzero().squeeze(1),), some)
        values_BTND = values.unflatten(0, tuple(num_frames_BT.shape))
        return values_BTND, (num_frames_BT > 0)[..., None].expand(values_BTND.shape[:3])


def window_frames(window_s: float) -> int:
    """Return the length of a full window in frames of 10 ms, a multiple of the patch.

    >>> window_frames(5.12)
    512
    """
    return max(round(window_s * FRAMES_PER_S) // PATCH, 1) * PATCH


ENCODERS: dict[str, Callable[[AudioOptions], PatchEncoder | BeatsEncoder]] = {
    "patches": lambda options: PatchEncoder(),
    "beats": BeatsEncoder,
}
