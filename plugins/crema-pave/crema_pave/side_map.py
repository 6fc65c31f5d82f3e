"""From side features to the width of a patch: one linear map, or 3D convolutions.

The convolutions are the released alternative to the linear map, which no released run uses: a pointwise stem, then
stages of bottleneck blocks (time, space, expand) with LayerNorm over channels and ReLU. A stage's stride is also the
dilation of its 3 x 3 maps; both were recovered from the released module's tensors.

Shape letters: B samples, T steps, N = R x K tokens of a step on R rows and K columns, C side width, E mapped width.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch.nn.functional as F
from torch import Tensor, nn

from crema_pave.rotary import Grid


class ConvStage(NamedTuple):
    """One stage of the convolutional map.

    Attributes:
        width: channels it returns.
        inner_width: channels inside its blocks.
        num_blocks: residual blocks, at least one.
        stride: of rows and columns, in the first block; also the dilation of every block's 3 x 3 map.
    """

    width: int
    inner_width: int
    num_blocks: int = 1
    stride: int = 1


class MappedSide(NamedTuple):
    """Side tokens in a patch's width.

    Attributes:
        values: `(B, T, N, E)`.
        mask: `(B, T, N)` bool.
        grid: rows and columns of the N tokens; None where none was needed.
    """

    values: Tensor
    mask: Tensor
    grid: Grid | None


class ConvMap(nn.Module):
    """Stem and stages; padded tokens are zero before every map that mixes positions, so nothing leaks from them.

    Args:
        side_dim: C.
        stem_dim: channels after the stem.
        stages: in order; the last one's width is E.
    """

    def __init__(self, side_dim: int, *, stem_dim: int, stages: Sequence[ConvStage]) -> None:
        super().__init__()
        self.stem, self.stem_norm = nn.Conv3d(side_dim, stem_dim, 1, bias=False), nn.LayerNorm(stem_dim)
        self.stages = nn.ModuleList()
        width = stem_dim
        for stage in stages:
            blocks = nn.ModuleList()
            for number in range(stage.num_blocks):
                blocks.append(_Block(width, stage, stride=stage.stride if number == 0 else 1))
                width = stage.width
            self.stages.append(blocks)
        self.width = width

    def forward(self, values: Tensor, *, mask: Tensor, grid: Grid) -> MappedSide:
        """Map.

        Args:
            values: `(B, T, N, C)`.
            mask: `(B, T, N)` bool.
            grid: rows and columns.

        Returns:
            Tokens on a grid that is coarser by the product of the strides.
        """
        volume = values.unflatten(2, grid).movedim(-1, 1)  # (B, C, T, R, K)
        real = mask.unflatten(2, grid)[:, None]  # (B, 1, T, R, K)
        volume = F.relu(_channel_norm(self.stem(volume), self.stem_norm))
        for stage in self.stages:
            assert isinstance(stage, nn.ModuleList)
            for block in stage:
                volume, real = block(volume, real)
        rows, columns = volume.shape[3:]
        return MappedSide(volume.movedim(1, -1).flatten(2, 3), real[:, 0].flatten(2), (rows, columns))


class _Block(nn.Module):
    def __init__(self, width: int, stage: ConvStage, *, stride: int) -> None:
        super().__init__()
        self.stride, dilation, inner = stride, stage.stride, stage.inner_width
        self.time = nn.Conv3d(width, inner, (3, 1, 1), padding=(1, 0, 0), bias=False)
        self.space = nn.Conv3d(
            inner,
            inner,
            (1, 3, 3),
            stride=(1, stride, stride),
            padding=(0, dilation, dilation),
            dilation=(1, dilation, dilation),
            bias=False,
        )
        self.expand = nn.Conv3d(inner, stage.width, 1, bias=False)
        self.time_norm, self.space_norm, self.expand_norm = (
            nn.LayerNorm(inner),
            nn.LayerNorm(inner),
            nn.LayerNorm(stage.width),
        )
        self.shortcut: nn.Module | None = None
        if width != stage.width or stride != 1:
            self.shortcut = nn.Conv3d(width, stage.width, 1, stride=(1, stride, stride), bias=False)
            self.shortcut_norm = nn.LayerNorm(stage.width)

    def forward(self, volume: Tensor, real: Tensor) -> tuple[Tensor, Tensor]:
        volume = volume.masked_fill(~real, 0)
        inner = F.relu(_channel_norm(self.time(volume), self.time_norm)).masked_fill(~real, 0)
        inner = F.relu(_channel_norm(self.space(inner), self.space_norm))
        kept = volume if self.shortcut is None else _channel_norm(self.shortcut(volume), self.shortcut_norm)
        real = real[..., :: self.stride, :: self.stride]
        return F.relu(kept + _channel_norm(self.expand(inner), self.expand_norm)), real


def _channel_norm(volume: Tensor, norm: nn.Module) -> Tensor:
    result: Tensor = norm(volume.movedim(1, -1)).movedim(-1, 1)
    return result
