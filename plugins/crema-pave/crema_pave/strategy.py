"""PAVE as a strategy: patches of the side senses update a video language model's own visual tokens (arXiv 2503.19794).

The major sense comes through the model's own tower and projector, the side senses as features. One patch per side sense
adds to the visual tokens what that sense says, so the language model reads as many tokens as without any; a patch that
was not trained adds exactly nothing. Samples without a side sense keep the plain visual tokens. A sample without
visual tokens has nothing to update: it is answered from its question alone, whatever side senses it has.

The paper adds a second sense to a frozen first one (section 4.4) and does not say how their updates combine; `order`
offers both ways. Training some senses only (`fit(modalities=[...])`) leaves the other patches as they are.

Shape letters: B samples, F frames, S visual tokens of a frame, K with newlines, T side steps, N side tokens of a step,
E width before the projector, L language-model width.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, ClassVar, Literal, get_args

import torch
from torch import Tensor

from crema_core.errors import OptionsError
from crema_core.fusion.base import Fusion, FusionSizes, SenseSet, spread
from crema_core.fusion.connector import BEFORE_PROJECTOR, VisualLayout
from crema_core.tokens import Segment, SenseTokens
from crema_pave.alignment import Alignment
from crema_pave.compose import add_patches, chain_patches
from crema_pave.connectors import FeatureConnector, VisualConnector
from crema_pave.newlines import Newlines, add_newlines
from crema_pave.patch import PavePatch, SideMap
from crema_pave.rotary import Rotary

Queries = Literal["inner", "projected", "learnable"]
Order = Literal["parallel", "chained"]


class PaveFusion(Fusion):
    """One patch per side sense, added to the visual tokens.

    Args:
        supports: names of the side senses.
        width: L.
        visual: how the visual tokens lie.
        token_widths: by side sense, width of its features; L where not named.
        num_layers, embed_dim, num_heads, rotary, alignment, shared_value, side_map, conv_stages: of every patch, see
            `PavePatch`.
        queries: what asks the side tokens: "inner" visual tokens before the projector (released), "projected" the
            tokens that are updated, or "learnable" vectors (the paper's Table 4).
        num_frames: most frames learnable queries can serve.
        newlines: where the model's learned newline stands, see `add_newlines`: "grid" as PAVE, "one_token" as
            LLaVA-OneVision in transformers. None: "grid" where the model has a newline, else "none".
        order: "parallel" adds every patch's update of the original tokens; "chained" lets a patch ask with the tokens
            the patches before it, in the order they were added, have updated.

    Raises:
        OptionsError: for settings that are unknown or do not fit each other or the backbone.
    """

    major_connector = VisualConnector.of
    support_connector = FeatureConnector.of
    one_query_count: ClassVar[bool] = False

    @classmethod
    def for_sizes(cls, supports: Sequence[str], sizes: FusionSizes, **options: Any) -> Fusion:
        """Build the strategy.

        Raises:
            OptionsError: when the major sense's tokens are not a video language model's own, or for a bad option.
        """
        if sizes.visual is None:
            raise OptionsError(
                "fusion='pave' updates a video language model's own visual tokens, and the major sense's tokens are "
                "none. Accepted: a backbone of that kind. Use backbone='llava-hf/llava-onevision-qwen2-0.5b-ov-hf'."
            )
        return cls(supports, width=sizes.width, visual=sizes.visual, token_widths=sizes.token_widths, **options)

    def __init__(
        self,
        supports: Sequence[str],
        *,
        width: int,
        visual: VisualLayout,
        token_widths: Mapping[str, int] | None = None,
        num_layers: int = 2,
        embed_dim: int = 512,
        num_heads: int = 4,
        rotary: Rotary = "none",
        alignment: Alignment = "time",
        shared_value: bool = False,
        side_map: SideMap = "linear",
        conv_stages: Sequence[Sequence[int]] = (),
        queries: Queries = "inner",
        num_frames: int = 32,
        newlines: Newlines | None = None,
        order: Order = "parallel",
    ) -> None:
        super().__init__((), width=width, num_queries=visual.rows * visual.columns)
        _check("queries", queries, get_args(Queries))
        _check("order", order, get_args(Order))
        _check("newlines", newlines or "grid", get_args(Newlines))
        if order == "chained" and queries != "projected":
            raise OptionsError(
                f"order='chained' with queries={queries!r}: no patch would see what another wrote. Chained patches ask "
                "with the tokens they update. Use queries='projected', or order='parallel'."
            )
        if newlines not in (None, "none") and visual.newline is None:
            raise OptionsError(
                f"newlines={newlines!r} came, and this backbone has no newline token. Accepted: 'none'. Leave newlines "
                "out."
            )
        self.newlines: Newlines = newlines or ("none" if visual.newline is None else "grid")
        self.queries, self.order = queries, order
        self.grid = (visual.rows, visual.columns)
        self._newline = (visual.newline,)  # in a tuple: it is the backbone's, not trained here
        self._warned = False
        query_widths = {"inner": visual.inner_width, "projected": width, "learnable": None}
        self._settings: dict[str, Any] = {
            "query_dim": query_widths[queries],
            "output_dim": width,
            "num_layers": num_layers,
            "embed_dim": embed_dim,
            "num_heads": num_heads,
            "rotary": rotary,
            "alignment": alignment,
            "shared_value": shared_value,
            "side_map": side_map,
            "conv_stages": conv_stages,
            "queries": "learnable" if queries == "learnable" else "visual",
            "num_frames": num_frames,
            "tokens_per_frame": visual.rows * visual.columns,
        }
        with torch.device("meta"):  # refuses bad settings also where there is no side sense yet
            self._patch(width)
        for name in supports:
            self.add_support(name, total=len(supports), token_width=(token_widths or {}).get(name))

    def make_block(self, name: str, *, total: int, zero: bool) -> None:
        """Add a patch; it changes nothing until it is trained, whether asked to or not."""
        self.blocks[name] = self._patch(self.token_widths[name])

    def forward(self, senses: SenseSet) -> list[Segment]:
        """Return the visual tokens with every side sense's update, and their newlines; no prefix stands before them."""
        self._warn_of_missing(senses)
        if senses.major not in senses.tokens:
            return []
        major = senses.tokens[senses.major]
        tokens_BFSL = spread(self._updated(senses), major.rows, senses.num_samples)
        mask_BF = spread(major.mask, major.rows, senses.num_samples)
        newline = self._newline[0]
        laid = add_newlines(
            tokens_BFSL,
            tokens_BFSL.new_zeros(self.width) if newline is None else newline,
            layout=self.newlines,
            frame_mask=mask_BF,
            grid=self.grid,
        )
        if self.newlines != "none":  # tokens with newlines among them make no grid
            return [Segment(laid.values, laid.mask, None)]
        return [Segment(laid.values, laid.mask, None, grid=self.grid, times=_spread_times(major, senses.num_samples))]

    def _updated(self, senses: SenseSet) -> Tensor:
        major = senses.tokens[senses.major]
        names = [name for name in self.supports if name in senses.tokens]
        patches = [partial(self._update, name, senses) for name in names]
        if self.order == "chained":
            return chain_patches(major.values, patches)
        inner = major.extras[BEFORE_PROJECTOR] if self.queries == "inner" else None
        return add_patches(major.values, patches, queries=inner)

    def _update(self, name: str, senses: SenseSet, asked: Tensor) -> Tensor:
        """Return one patch's update `(R, F, S, L)` of the R samples with visual tokens, 0 without the sense."""
        major, side = senses.tokens[senses.major], senses.tokens[name]
        both, num_rows = None, len(major.rows)
        if not num_rows == len(side.rows) == senses.num_samples:
            place = torch.full((senses.num_samples,), -1, device=side.rows.device)
            place = place.index_copy(0, side.rows, torch.arange(len(side.rows), device=side.rows.device))[major.rows]
            both = (place >= 0).nonzero().squeeze(1)  # positions of the samples that have both
            if not len(both):
                return torch.zeros_like(major.values)
            side, major = side.select(place[both], major.rows[both]), major.select(both, major.rows[both])
            asked = asked[both]
        update: Tensor = self.blocks[name](
            asked,
            side=side.values,
            frame_mask=major.mask,
            side_mask=side.mask if side.token_mask is None else side.token_mask,
            frame_times=major.times,
            side_times=side.times,
            query_grid=self.grid,
        )
        if both is None:
            return update
        return update.new_zeros(num_rows, *update.shape[1:]).index_copy(0, both, update)

    def _patch(self, side_dim: int) -> PavePatch:
        return PavePatch(side_dim, **self._settings)

    def _warn_of_missing(self, senses: SenseSet) -> None:
        if self._warned or not senses.supports:
            return
        with_major = 0 if senses.major not in senses.tokens else len(senses.tokens[senses.major].rows)
        if with_major == senses.num_samples:
            return
        seen = set() if not with_major else set(senses.tokens[senses.major].rows.tolist())
        lost = [name for name, side in senses.supports.items() if not seen.issuperset(side.rows.tolist())]
        if lost:
            self._warned = True
            warnings.warn(
                f"A sample has {', '.join(lost)} and no {senses.major}. PAVE updates the tokens of '{senses.major}', "
                f"so such samples are answered from the question alone. Give them '{senses.major}' too. Said once.",
                stacklevel=2,
            )


def _spread_times(tokens: SenseTokens, num_samples: int) -> Tensor | None:
    """Place `(R, F, 2)` seconds at their samples' rows, NaN elsewhere."""
    if tokens.times is None:
        return None
    times = torch.full((num_samples, *tokens.times.shape[1:]), torch.nan, device=tokens.times.device)
    return times.index_copy(0, tokens.rows, tokens.times.to(times.dtype))


def _check(name: str, value: str, accepted: Sequence[str]) -> None:
    if value not in accepted:
        raise OptionsError(
            f"{name}={value!r} is not known to PAVE. Accepted: {', '.join(accepted)}. Use {name}={accepted[0]!r}, the "
            "default."
        )
