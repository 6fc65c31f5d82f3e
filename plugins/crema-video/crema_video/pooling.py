"""A frame's tokens averaged to a coarser grid.

Shape letters: B samples, T steps, N tokens of a step, D width.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from crema_core.errors import ContractError


def pool_grid(tokens_BTND: Tensor, side: int | None) -> Tensor:
    """Average a square grid of tokens to `side` rows and columns.

    Args:
        tokens_BTND: `(B, T, N, D)`, row by row; one token before the grid (a class token) is left out.
        side: rows and columns; a coarser grid stays as it is. None: all tokens, the class token too.

    Returns:
        `(B, T, side * side, D)`.

    Raises:
        ContractError: when the tokens make no square.
    """
    if side is None:
        return tokens_BTND
    rows = math.isqrt(tokens_BTND.shape[2])
    if rows * rows != tokens_BTND.shape[2]:
        tokens_BTND, rows = tokens_BTND[:, :, 1:], math.isqrt(tokens_BTND.shape[2] - 1)
    if rows * rows != tokens_BTND.shape[2]:
        raise ContractError(
            f"{tokens_BTND.shape[2] + 1} tokens of a frame make no square, with or without a class token. Averaging "
            "needs one. Set the option pool to None, or use another encoder."
        )
    if rows <= side:
        return tokens_BTND
    grid = tokens_BTND.flatten(0, 1).unflatten(1, (rows, rows)).movedim(-1, 1)  # (B * T, D, rows, rows)
    pooled = F.adaptive_avg_pool2d(grid, side).flatten(2).transpose(1, 2)
    return torch.unflatten(pooled, 0, tokens_BTND.shape[:2])
