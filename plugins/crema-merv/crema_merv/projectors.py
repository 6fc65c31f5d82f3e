"""From the features of one frozen encoder to tokens of the language model (MERV, "feature projection").

A projector is a resampler, which makes the same number of tokens of every encoder's grid, and a map to the language
model's width. They are the only trained parts between encoders and mixer.

Shape letters: B samples, T steps, S steps after the projector (T, but for the kinds over time), N patches of a step,
K tokens of a step, D feature width, E width after the resampler (D or L), L language-model width.
"""

from __future__ import annotations

from typing import Literal, NamedTuple, get_args

from torch import Tensor, nn

from crema_core.errors import OptionsError, did_you_mean
from crema_core.modality import FeaturePart
from crema_merv.attentive import AttentiveResampler
from crema_merv.convolution import Conv3dResampler, ConvResampler
from crema_merv.maps import MapKind, make_map
from crema_merv.pooling import Average3dResampler, AverageResampler, FullResampler, Grid

ProjectorKind = Literal["average", "average_3d", "attentive", "conv", "conv_3d", "full", "class_token"]

Resampler = AverageResampler | Average3dResampler | AttentiveResampler | ConvResampler | Conv3dResampler | FullResampler


class Projected(NamedTuple):
    """Tokens of one encoder.

    Attributes:
        values: `(B, S, K, L)`, zero at padded steps.
        mask: `(B, S)` bool, real steps.
    """

    values: Tensor
    mask: Tensor


class Projector(nn.Module):
    """One encoder's way into the language model.

    Args:
        layout: sizes of the encoder's features.
        width: L.
        kind: "average" (over patches, the paper's), "average_3d" (over steps too), "attentive" (learned queries),
            "conv" (RegNet-Y blocks), "conv_3d", "full" (every patch is a token) or "class_token" (for encoders of one
            token).
        map_kind: see `make_map`.
        token_grid: rows and columns of the tokens, K their product; "full" and "class_token" leave it aside.
        num_steps: S of the kinds over time; None: as many as the encoder has.
        num_blocks: blocks of "conv" on either side of its averaging.
        num_heads: attention heads of "attentive".

    Raises:
        OptionsError: for an unknown kind, and for an encoder the kind cannot take.

    Example:
        >>> import torch
        >>> encoder = FeaturePart("dinov2", steps=4, rows=16, columns=12, width=32)
        >>> projector = Projector(encoder, width=64, token_grid=(8, 8))
        >>> projector(torch.zeros(2, 4, 192, 32), torch.ones(2, 4, dtype=torch.bool)).values.shape
        torch.Size([2, 4, 64, 64])
    """

    def __init__(
        self,
        layout: FeaturePart,
        *,
        width: int,
        kind: ProjectorKind = "average",
        map_kind: MapKind = "linear",
        token_grid: Grid = (8, 8),
        num_steps: int | None = None,
        num_blocks: int = 3,
        num_heads: int = 8,
    ) -> None:
        super().__init__()
        _check(layout, kind, token_grid, num_steps)
        self.layout, self.width, self.kind, self.map_kind, self.token_grid = layout, width, kind, map_kind, token_grid
        over_time = kind in ("average_3d", "conv_3d")
        self.num_steps = (num_steps or layout.steps) if over_time else layout.steps
        self.num_tokens = layout.shape[1] if kind in ("full", "class_token") else token_grid[0] * token_grid[1]
        self.resampler = self._resampler(num_blocks=num_blocks, num_heads=num_heads)
        self.map = make_map(map_kind, self.resampler.output_dim, width)

    def _resampler(self, *, num_blocks: int, num_heads: int) -> Resampler:
        width_in, grid, tokens = self.layout.width, (self.layout.rows, self.layout.columns), self.token_grid
        if self.kind == "average":
            return AverageResampler(width_in, grid=grid, token_grid=tokens)
        if self.kind == "average_3d":
            return Average3dResampler(width_in, grid=grid, token_grid=tokens, num_steps=self.num_steps)
        if self.kind == "attentive":
            return AttentiveResampler(width_in, num_tokens=self.num_tokens, num_heads=num_heads)
        if self.kind == "conv":
            return ConvResampler(width_in, width=self.width, grid=grid, token_grid=tokens, num_blocks=num_blocks)
        if self.kind == "conv_3d":
            sizes = {"width": self.width, "num_steps": self.num_steps}
            return Conv3dResampler(width_in, grid=grid, token_grid=tokens, **sizes)
        return FullResampler(width_in)

    def forward(self, values_BTND: Tensor, mask_BT: Tensor) -> Projected:
        """Return the encoder's tokens.

        Args:
            values_BTND: `(B, T, N, D)`.
            mask_BT: `(B, T)` bool, real steps first.
        """
        weight = next(self.parameters(), values_BTND)
        tokens_BSKE, mask_BS = self.resampler(values_BTND.to(weight.dtype), mask_BT)
        tokens_BSKL = self.map(tokens_BSKE)
        if not bool(mask_BS.all()):
            tokens_BSKL = tokens_BSKL * mask_BS[:, :, None, None]
        return Projected(tokens_BSKL, mask_BS)


def _check(layout: FeaturePart, kind: str, token_grid: Grid, num_steps: int | None) -> None:
    if kind not in get_args(ProjectorKind):
        raise OptionsError(
            f"{kind!r} is no kind of projector. Accepted: {', '.join(get_args(ProjectorKind))}."
            f"{did_you_mean(kind, get_args(ProjectorKind))} Use 'average', the paper's."
        )
    if min(token_grid) < 1 or (num_steps is not None and num_steps < 1):
        raise OptionsError(
            f"A projector was asked for {token_grid[0]} rows, {token_grid[1]} columns and {num_steps or 'all'} steps. "
            "Each is at least 1. Use token_grid=(8, 8), the paper's, and leave num_steps out."
        )
    if kind == "class_token" and layout.rows * layout.columns != 1:
        raise OptionsError(
            f"The projector 'class_token' was asked of the encoder '{layout.name}', which gives "
            f"{layout.rows * layout.columns} tokens a step. It takes encoders of one token. Use 'average' with "
            "token_grid=(1, 1), which averages all of them."
        )
