"""Projectors that convolve before they average (MERV, "2D conv" and "3D conv").

Shape letters: B samples, T steps, S steps after pooling, N patches, K tokens, D feature width, L language-model width,
M steps of all samples, R rows, C columns.
"""

from __future__ import annotations

from torch import Tensor, nn

from crema_merv.pooling import Average3dResampler, Grid, pool_grid
from crema_merv.steps import on_real_steps


class ConvResampler(nn.Module):
    """RegNet-Y blocks, adaptive averaging, RegNet-Y blocks, step by step.

    Args:
        feature_dim: D.
        width: L.
        grid: rows and columns of the patches.
        token_grid: rows and columns of the tokens.
        num_blocks: blocks before and after the averaging.
    """

    def __init__(self, feature_dim: int, *, width: int, grid: Grid, token_grid: Grid, num_blocks: int = 3) -> None:
        super().__init__()
        self.grid, self.token_grid, self.output_dim = grid, token_grid, width
        self.before, self.after = _stage(num_blocks, feature_dim, width), _stage(num_blocks, width, width)

    def forward(self, values_BTND: Tensor, mask_BT: Tensor) -> tuple[Tensor, Tensor]:
        """Return tokens `(B, T, K, L)` and the mask of steps."""
        return on_real_steps(values_BTND, mask_BT, self._convolve), mask_BT

    def _convolve(self, patches_MND: Tensor) -> Tensor:
        before_MLRC = self.before(patches_MND.unflatten(1, self.grid).permute(0, 3, 1, 2))
        pooled_MKL = pool_grid(before_MLRC.flatten(2).transpose(1, 2), self.grid, self.token_grid)
        after_MLRC = self.after(pooled_MKL.unflatten(1, self.token_grid).permute(0, 3, 1, 2))
        tokens_MKL: Tensor = after_MLRC.flatten(2).transpose(1, 2)
        return tokens_MKL


class Conv3dResampler(nn.Module):
    """One 3x3x3 convolution over steps, rows and columns, then averaging over boxes.

    The paper's text states 2x3x3; its own 113M parameters and the released code say 3x3x3.

    Args:
        feature_dim: D.
        width: L.
        grid: rows and columns of the patches.
        token_grid: rows and columns of the tokens.
        num_steps: S.
    """

    def __init__(self, feature_dim: int, *, width: int, grid: Grid, token_grid: Grid, num_steps: int) -> None:
        super().__init__()
        self.grid, self.output_dim = grid, width
        self.convolution = nn.Conv3d(feature_dim, width, kernel_size=3, padding=1)
        self.pooling = Average3dResampler(width, grid=grid, token_grid=token_grid, num_steps=num_steps)

    def forward(self, values_BTND: Tensor, mask_BT: Tensor) -> tuple[Tensor, Tensor]:
        """Return tokens `(B, S, K, L)` and the mask of steps."""
        # Padded steps are zero, as what the convolution sees beyond the end of a clip without padding.
        masked = (values_BTND * mask_BT[:, :, None, None]).unflatten(2, self.grid)
        convolved_BLTRC = self.convolution(masked.permute(0, 4, 1, 2, 3))
        pooled: tuple[Tensor, Tensor] = self.pooling(convolved_BLTRC.permute(0, 2, 3, 4, 1).flatten(2, 3), mask_BT)
        return pooled


def _stage(num_blocks: int, width_in: int, width_out: int) -> nn.Module:
    from timm.layers.norm import LayerNorm2d  # seconds, which every start would pay
    from timm.models.regnet import RegStage

    stage: nn.Module = RegStage(
        num_blocks, width_in, width_out, stride=1, dilation=1, act_layer=nn.SiLU, norm_layer=LayerNorm2d
    )
    return stage
