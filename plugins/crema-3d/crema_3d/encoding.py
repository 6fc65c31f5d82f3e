"""Parameter-free encodings of positions: Fourier features, and the coordinate table of 3D-LLM that CREMA uses."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from crema_3d.plugin import NUM_OCTAVES


def fourier(positions: Tensor) -> Tensor:
    """Encode positions in octaves.

    Args:
        positions: `(..., 3)`, about -1..1. The longest wave is 4 long, so both signs of a coordinate look different.

    Returns:
        `(..., 39)`: the positions, then sine and cosine at frequencies pi/2 * 2^k for k in 0..5.
    """
    frequencies = math.pi / 2 * 2.0 ** torch.arange(NUM_OCTAVES, device=positions.device)
    angles = (positions[..., None] * frequencies).flatten(-2)
    return torch.cat([positions, angles.sin(), angles.cos()], dim=-1)


def coordinate_table(width: int, *, num_rows: int = 256) -> Tensor:
    """Return the sinusoidal table of one axis, `(num_rows, width)`, sine and cosine interleaved, an odd width cut.

    Frequencies `10000^(-2k/W)` with W the even width (released CREMA code, `PositionalEncoding1D`).
    """
    even = width + width % 2
    angles = torch.arange(num_rows)[:, None] * 10000 ** (-torch.arange(0, even, 2) / even)
    return torch.stack([angles.sin(), angles.cos()], dim=-1).flatten(1)[:, :width]


def encode_coordinates(coordinates: Tensor, feature_dim: int) -> Tensor:
    """Encode voxel numbers for vectors of a width.

    Args:
        coordinates: `(..., 3)` int64 in 0..255.
        feature_dim: width; a third per axis, what is left over stays 0.

    Returns:
        `(..., feature_dim)` float.
    """
    width = feature_dim // 3
    rows = coordinate_table(width).to(coordinates.device)[coordinates]  # (..., 3, width)
    return torch.nn.functional.pad(rows.flatten(-2), (0, feature_dim - 3 * width))
