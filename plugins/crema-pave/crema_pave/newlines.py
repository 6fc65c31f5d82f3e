"""Visual tokens as LLaVA-OneVision's language model reads them: pooled, and with a learned newline vector in between.

Released runs pool 27 x 27 tokens of a frame to 14 x 14 and end each of the 14 rows with a newline: 32 frames are
32 x 14 x 15 = 6720 tokens, not the 6272 the paper counts.

Shape letters: B samples, F frames, N tokens of a frame before pooling, S after, K with newlines, L width.
"""

from __future__ import annotations

import math
from typing import Literal, NamedTuple, get_args

import torch
import torch.nn.functional as F
from torch import Tensor

from crema_core.errors import OptionsError
from crema_pave.rotary import Grid, square_grid

Newlines = Literal["grid", "frame", "one_token", "none"]


class VisualTokens(NamedTuple):
    """Tokens with newlines.

    Attributes:
        values: `(B, F, K, L)`.
        mask: `(B, F, K)` bool, real tokens; the prompt is these in order.
    """

    values: Tensor
    mask: Tensor


def add_newlines(
    tokens: Tensor,
    newline: Tensor,
    *,
    layout: Newlines,
    frame_mask: Tensor | None = None,
    grid: Grid | None = None,
) -> VisualTokens:
    """Put the newline vector where a layout wants it.

    Args:
        tokens: `(B, F, S, L)`, row by row.
        newline: `(L,)`, the checkpoint's learned vector.
        layout: "grid" after every row, "frame" after every frame, "one_token" once after a sample's last frame,
            "none" nowhere.
        frame_mask: `(B, F)` bool, real frames; None for all.
        grid: rows and columns of the S tokens; None for a square. Only "grid" needs it.

    Returns:
        K is S, S + 1 for "frame" and "one_token", or rows x (columns + 1) for "grid".

    Raises:
        OptionsError: for an unknown layout, or tokens that make no grid.
    """
    if layout not in get_args(Newlines):
        raise OptionsError(
            f"newlines={layout!r} is not a layout. Accepted: {', '.join(get_args(Newlines))}. Use newlines='grid', as "
            "LLaVA-OneVision for clips."
        )
    batch, num_frames, num_tokens, width = tokens.shape
    if frame_mask is None:
        frame_mask = torch.ones(batch, num_frames, dtype=torch.bool, device=tokens.device)
    if layout == "grid":
        rows, columns = square_grid(num_tokens, grid, of="query")
        lines = tokens.unflatten(2, (rows, columns))
        ends = newline.to(tokens.dtype).expand(batch, num_frames, rows, 1, width)
        tokens = torch.cat([lines, ends], dim=3).flatten(2, 3)
    elif layout != "none":
        tokens = torch.cat([tokens, newline.to(tokens.dtype).expand(batch, num_frames, 1, width)], dim=2)
    mask = frame_mask[:, :, None].expand(tokens.shape[:3])
    if layout == "one_token":
        later = frame_mask.flip(1).long().cumsum(1).flip(1)  # real frames from this one on
        mask = torch.cat([mask[:, :, :-1], (frame_mask & (later == 1))[:, :, None]], dim=2)
    return VisualTokens(tokens, mask)


def pool_tokens(tokens: Tensor, *, stride: int = 2, grid: Grid | None = None) -> Tensor:
    """Pool every frame's grid of tokens bilinearly (half-pixel centres, no antialiasing).

    Args:
        tokens: `(B, F, N, L)`, row by row.
        stride: rows and columns shrink by it, rounded up: 27 become 14.
        grid: rows and columns of the N tokens; None for a square.

    Returns:
        `(B, F, S, L)`.

    Raises:
        OptionsError: when the tokens make no grid.
    """
    rows, columns = square_grid(tokens.shape[2], grid, of="query")
    size = (math.ceil(rows / stride), math.ceil(columns / stride))
    images = tokens.flatten(0, 1).unflatten(1, (rows, columns)).movedim(-1, 1)  # (B * F, L, rows, columns)
    pooled = F.interpolate(images, size=size, mode="bilinear", align_corners=False)
    result: Tensor = pooled.flatten(2).transpose(1, 2).unflatten(0, tokens.shape[:2])
    return result
