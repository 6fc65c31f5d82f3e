"""The PAVE patch: side tokens in, an update of as many visual tokens out (arXiv 2503.19794, section 3.3).

Side features and visual tokens are mapped to one width; layers of attention let the tokens of every frame read the
side tokens of its own stretch of time; an adapter and a LayerNorm that starts at zero lead to the language model's
width. The result is added to the projected visual tokens, so the language model sees as many tokens as before, and an
untrained patch changes nothing.

Released runs query with the vision encoder's tokens before the projector and add to the tokens after it, pooled both.

Shape letters: B samples, F frames, S visual tokens of a frame, T side steps, N side tokens of a step, Q query width,
C side width, D hidden width, L language-model width.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from crema_core.errors import OptionsError
from crema_pave.alignment import Aligned, Alignment, align_side
from crema_pave.grouping import ranks
from crema_pave.layer import PaveLayer, plan_keys
from crema_pave.reading import LayerReading, over_steps
from crema_pave.recompute import LeanAdapter
from crema_pave.rotary import Angles, Grid, Rotary, axis_pairs, rotation, square_grid
from crema_pave.side_map import ConvMap, ConvStage, MappedSide

QuerySource = Literal["visual", "learnable"]
SideMap = Literal["linear", "conv"]


class PavePatch(nn.Module):
    """An update of visual tokens by one stream of side tokens.

    Args:
        side_dim: C.
        query_dim: Q; not used by learnable queries.
        output_dim: L.
        embed_dim: width of the mapped side tokens (of the stem, for side_map="conv").
        hidden_dim: D; None for `embed_dim`.
        num_heads: attention heads, dividing D.
        num_layers: layers.
        rotary: position embedding of queries and keys, see `rotary`; "none" in all published checkpoints, "time" in
            the paper's text.
        alignment: "time" lets a frame read the steps that overlap its seconds where a sample has time stamps, and
            measures rotary time in seconds there; "count" deals steps out by number, as released, always.
        queries: "visual", or "learnable" vectors in their place (the paper's Table 4).
        shared_value: values are the keys (released) instead of a projection of their own (the paper).
        side_map: "linear" (all released runs) or "conv".
        conv_stages: stages of side_map="conv".
        num_frames: most frames learnable queries can serve; shorter clips use the first ones.
        tokens_per_frame: S of learnable queries.

    Raises:
        OptionsError: for a setting that is unknown or does not fit the others.

    Example:
        >>> patch = PavePatch(1024, query_dim=1152, output_dim=896)
        >>> update = patch(torch.randn(2, 8, 9, 1152), side=torch.randn(2, 20, 4, 1024))
        >>> tuple(update.shape), bool((update == 0).all())
        ((2, 8, 9, 896), True)
    """

    def __init__(
        self,
        side_dim: int,
        *,
        query_dim: int | None,
        output_dim: int,
        embed_dim: int = 512,
        hidden_dim: int | None = None,
        num_heads: int = 4,
        num_layers: int = 2,
        rotary: Rotary = "none",
        alignment: Alignment = "time",
        queries: QuerySource = "visual",
        shared_value: bool = False,
        side_map: SideMap = "linear",
        conv_stages: Sequence[ConvStage | Sequence[int]] = (),
        num_frames: int = 32,
        tokens_per_frame: int = 196,
    ) -> None:
        super().__init__()
        hidden_dim = hidden_dim or embed_dim
        for name, value, accepted in (
            ("alignment", alignment, get_args(Alignment)),
            ("queries", queries, get_args(QuerySource)),
            ("side_map", side_map, get_args(SideMap)),
        ):
            if value not in accepted:
                raise OptionsError(
                    f"{name}={value!r} is not known to PAVE. Accepted: {', '.join(accepted)}. Use "
                    f"{name}={accepted[0]!r}, the default."
                )
        if hidden_dim % num_heads:
            raise OptionsError(
                f"{num_heads} heads do not divide a width of {hidden_dim}. The width must be a multiple of the heads. "
                "Use num_heads=4 with a width of 512, as published."
            )
        axis_pairs(rotary, hidden_dim // num_heads)
        if queries == "visual" and query_dim is None:
            raise OptionsError(
                "queries='visual' without a width. Visual tokens need theirs. Pass query_dim, the vision encoder's "
                "width, or queries='learnable'."
            )
        if (side_map == "conv") != bool(conv_stages):
            raise OptionsError(
                f"side_map={side_map!r} with {len(conv_stages)} conv_stages. Accepted: 'linear' without stages, 'conv' "
                "with at least one. Pass conv_stages=[(width, inner_width, num_blocks, stride)] or side_map='linear'."
            )
        self.rotary, self.alignment, self.head_dim = rotary, alignment, hidden_dim // num_heads
        self.side_map: nn.Linear | ConvMap
        if side_map == "conv":
            self.side_map = ConvMap(side_dim, stem_dim=embed_dim, stages=[ConvStage(*stage) for stage in conv_stages])
            embed_dim = self.side_map.width
        else:
            self.side_map = nn.Linear(side_dim, embed_dim)
        self.query_map: nn.Linear | None = None
        self.learnable: nn.Parameter | None = None
        if queries == "learnable":
            self.learnable = nn.Parameter(torch.empty(num_frames, tokens_per_frame, hidden_dim).normal_(std=0.02))
        else:
            assert query_dim is not None
            self.query_map = nn.Linear(query_dim, hidden_dim)
        self.layers = nn.ModuleList(
            PaveLayer(hidden_dim, side_dim=embed_dim, num_heads=num_heads, shared_value=shared_value)
            for _ in range(num_layers)
        )
        self.adapter = LeanAdapter(hidden_dim, 2 * hidden_dim, output_dim)
        self.norm = nn.LayerNorm(output_dim)
        self.reset()

    def reset(self) -> None:
        """Set biases and the last LayerNorm to zero: the patch adds nothing until it is trained."""
        for module in self.modules():
            if isinstance(module, nn.Linear) and module.bias is not None:
                nn.init.zeros_(module.bias)
        nn.init.zeros_(self.norm.weight)
        nn.init.zeros_(self.norm.bias)

    def forward(
        self,
        queries: Tensor,
        *,
        side: Tensor,
        frame_mask: Tensor | None = None,
        side_mask: Tensor | None = None,
        frame_times: Tensor | None = None,
        side_times: Tensor | None = None,
        query_grid: Grid | None = None,
        side_grid: Grid | None = None,
        reads: list[LayerReading] | None = None,
    ) -> Tensor:
        """Return what is to be added to the visual tokens.

        Padding is never read, whatever it holds, and no sample depends on another.

        Args:
            queries: `(B, F, S, Q)` visual tokens; learnable queries take only their shape.
            side: `(B, T, N, C)` side tokens, row by row where they have a grid.
            frame_mask: `(B, F)` bool, real frames; None for all.
            side_mask: `(B, T)` or `(B, T, N)` bool, real side tokens; None for all.
            frame_times: `(B, F, 2)` seconds, start and end; NaN where a sample has no clock.
            side_times: `(B, T, 2)` seconds.
            query_grid: rows and columns of the S tokens for rotary of space; None for a square.
            side_grid: rows and columns of the N tokens for rotary of space and convolutions; None for a square.
            reads: gets one entry per layer, how it reads; None: nobody looks. The result is the same.

        Returns:
            `(B, F, S, L)`, zero at padded frames and in samples without side tokens.

        Raises:
            OptionsError: when tokens do not make a grid, or learnable queries do not fit the frames.
        """
        if frame_mask is None:
            frame_mask = torch.ones(queries.shape[:2], dtype=torch.bool, device=queries.device)
        if side_mask is None:
            side_mask = torch.ones(side.shape[:2], dtype=torch.bool, device=side.device)
        if side_mask.dim() == 2:
            side_mask = side_mask[:, :, None].expand(side.shape[:3])
        if side.shape[1] == 0:  # no sample has a step: a masked one keeps all shapes below at least one long
            side, side_mask = F.pad(side, (0, 0, 0, 0, 0, 1)), F.pad(side_mask, (0, 0, 0, 1))
            side_times = None
        # Where nothing is padded, nothing is copied: side tokens may be larger than all that is made of them.
        all_frames, all_side = torch.stack((frame_mask.all(), side_mask.all())).tolist()
        if not all_side:
            side = side.masked_fill(~side_mask[..., None], 0)
        if not all_frames and self.learnable is None:
            queries = queries.masked_fill(~frame_mask[:, :, None, None], 0)
        mapped = self._map_side(side, side_mask, side_grid)
        clock = None
        if self.alignment == "time" and frame_times is not None and side_times is not None:
            clock = (frame_times, side_times)
        aligned = align_side(mapped, frame_mask, clock)
        angles = self._angles(queries.shape[2], aligned, query_grid)
        hidden_BFSD = self._queries(queries, frame_mask)
        plan = plan_keys(aligned.groups, aligned.side.mask)
        for layer in self.layers:
            if reads is not None:
                assert isinstance(layer, PaveLayer)
                weights = layer.attention.weights(hidden_BFSD, side=aligned.side.values, plan=plan, angles=angles)
                reads.append(over_steps(weights, aligned.groups))
            hidden_BFSD = layer(hidden_BFSD, side=aligned.side.values, plan=plan, angles=angles)
        reading_BF = aligned.groups.any(-1)
        del mapped, aligned  # without a backward pass nobody else holds the mapped side tokens
        update_BFSL: Tensor = self.norm(self.adapter(hidden_BFSD))
        # Every frame reads something where every frame and every side token is real.
        return update_BFSL if all_frames and all_side else update_BFSL.masked_fill(~reading_BF[:, :, None, None], 0)

    def _map_side(self, side: Tensor, mask: Tensor, grid: Grid | None) -> MappedSide:
        if isinstance(self.side_map, ConvMap):
            mapped: MappedSide = self.side_map(side, mask=mask, grid=square_grid(side.shape[2], grid, of="side"))
            return mapped
        if self.rotary in ("space_time", "released_3d"):
            grid = square_grid(side.shape[2], grid, of="side")
        return MappedSide(self.side_map(side), mask, grid)

    def _queries(self, queries: Tensor, frame_mask: Tensor) -> Tensor:
        if self.learnable is None:
            assert self.query_map is not None
            hidden: Tensor = self.query_map(queries)
            return hidden
        most, per_frame = self.learnable.shape[:2]
        if queries.shape[1] > most or queries.shape[2] != per_frame:
            raise OptionsError(
                f"{queries.shape[1]} frames of {queries.shape[2]} tokens came. Learnable queries were made for up to "
                f"{most} frames of {per_frame}. Read that many frames, or build the patch with other num_frames and "
                "tokens_per_frame."
            )
        return self.learnable[ranks(frame_mask)]

    def _angles(self, num_tokens: int, aligned: Aligned, query_grid: Grid | None) -> Angles | None:
        if self.rotary == "none":
            return None
        if self.rotary != "time":
            query_grid = square_grid(num_tokens, query_grid, of="query")
        return rotation(
            self.rotary,
            self.head_dim,
            query_times=aligned.query_times,
            key_times=aligned.key_times,
            query_grid=query_grid,
            key_grid=aligned.side.grid,
        )
