"""Position tables of the UMT vision encoder, for any number of frames and any grid.

The encoder was trained on clips of 4 frames of 14 x 14 patches: one fixed sinusoid over the flat index of a patch.
Other numbers of frames interpolate that table linearly over time, other grids bicubically over space. A picture (one
frame) has a table of its own, the first frame of the sinusoid.

Shape letters: T frames, N patches of the clip, E width.
"""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor
from torch.nn.functional import interpolate


def sinusoid(num_positions: int, width: int) -> Tensor:
    """Return `(num_positions, width)` float32: sine in even channels, cosine in odd ones, computed in double."""
    position = torch.arange(num_positions, dtype=torch.float64)[:, None]
    channel = torch.arange(width, dtype=torch.float64)
    angle = position / 10000.0 ** (2 * (channel // 2) / width)
    return torch.where(channel % 2 == 0, angle.sin(), angle.cos()).float()


@lru_cache(maxsize=8)
def position_table(
    num_frames: int, grid: tuple[int, int], width: int, *, trained_frames: int = 4, trained_side: int = 14
) -> Tensor:
    """Return the positions that are added to a clip's patches.

    Args:
        num_frames: T.
        grid: rows and columns of a frame's patches.
        width: E.
        trained_frames: frames of the table that the others are interpolated from.
        trained_side: rows, and columns, of that table.

    Returns:
        `(N, E)` float32 on the CPU, frame by frame and row by row; kept, so not to be written to.

    Example:
        >>> position_table(16, (14, 14), 8).shape
        torch.Size([3136, 8])
    """
    frames = 1 if num_frames == 1 else trained_frames
    table = sinusoid(frames * trained_side**2, width).view(frames, trained_side, trained_side, width)
    if grid != (trained_side, trained_side):
        table_TEHW = interpolate(table.permute(0, 3, 1, 2), size=grid, mode="bicubic", align_corners=False)
        table = table_TEHW.permute(0, 2, 3, 1)
    if num_frames != frames:
        # Half-pixel rule, clamped at the ends: at 16 frames the first two share one position, and the last two.
        along_time = table.flatten(1).T[None]  # (1, rows * columns * E, trained frames)
        table = interpolate(along_time, size=num_frames, mode="linear", align_corners=False)[0].T
    return table.reshape(-1, width).contiguous()
