"""Projectors that average: over the patches of a step, or over steps and patches (MERV, the ablation of projectors).

Adaptive pooling: bin i of m over n cells covers floor(i n / m) to ceil((i + 1) n / m). So any grid becomes any other,
square or not; cells repeat where there are fewer than wanted.

Shape letters: B samples, T steps, S steps after pooling, N patches of a step, K tokens of a step, D feature width,
M steps of all samples.
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

from crema_merv.steps import on_real_steps, pool_steps

Grid = tuple[int, int]


def pool_grid(values_MND: Tensor, grid: Grid, token_grid: Grid) -> Tensor:
    """Average patches: `(M, rows * columns, D)` -> `(M, K, D)`, rows before columns."""
    if grid == token_grid:
        return values_MND
    pictures_MDRC = values_MND.unflatten(1, grid).permute(0, 3, 1, 2)
    pooled_MDRC = F.adaptive_avg_pool2d(pictures_MDRC, token_grid)
    return pooled_MDRC.permute(0, 2, 3, 1).flatten(1, 2)


class AverageResampler(nn.Module):
    """Averages the patches of every step; the paper's choice (2D average pooling).

    Args:
        feature_dim: D.
        grid: rows and columns of the patches.
        token_grid: rows and columns of the tokens.
    """

    def __init__(self, feature_dim: int, *, grid: Grid, token_grid: Grid) -> None:
        super().__init__()
        self.grid, self.token_grid, self.output_dim = grid, token_grid, feature_dim

    def forward(self, values_BTND: Tensor, mask_BT: Tensor) -> tuple[Tensor, Tensor]:
        """Return tokens `(B, T, K, D)` and the mask of steps."""
        pooled = on_real_steps(values_BTND, mask_BT, lambda steps: pool_grid(steps, self.grid, self.token_grid))
        return pooled, mask_BT


class Average3dResampler(nn.Module):
    """Averages over boxes of steps, rows and columns (the released code's default, with as many steps as came).

    Args:
        feature_dim: D.
        grid: rows and columns of the patches.
        token_grid: rows and columns of the tokens.
        num_steps: S.
    """

    def __init__(self, feature_dim: int, *, grid: Grid, token_grid: Grid, num_steps: int) -> None:
        super().__init__()
        self.space = AverageResampler(feature_dim, grid=grid, token_grid=token_grid)
        self.num_steps, self.output_dim = num_steps, feature_dim

    def forward(self, values_BTND: Tensor, mask_BT: Tensor) -> tuple[Tensor, Tensor]:
        """Return tokens `(B, S, K, D)` and the mask of steps."""
        # The mean over a box is the mean over time of means over space.
        pooled_BTKD, _ = self.space(values_BTND, mask_BT)
        return pool_steps(pooled_BTKD, mask_BT, self.num_steps)


class FullResampler(nn.Module):
    """Keeps every patch as a token of its own (the paper's baseline of full embeddings, and encoders of one token)."""

    def __init__(self, feature_dim: int) -> None:
        super().__init__()
        self.output_dim = feature_dim

    def forward(self, values_BTND: Tensor, mask_BT: Tensor) -> tuple[Tensor, Tensor]:
        """Return the features, zero at padded steps, and the mask of steps."""
        return values_BTND * mask_BT[:, :, None, None], mask_BT
