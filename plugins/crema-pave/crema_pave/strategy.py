"""PAVE as a strategy: patches of the supporting modalities update a vision-language model's own visual tokens (arXiv
2503.19794).

The major modality's tokens are a vision-language model's own, the supporting modalities come as features.
One patch per supporting modality adds to the visual tokens what that modality contributes, so the language model reads
as many tokens as without any; a patch that was not trained adds exactly nothing. Samples without a supporting modality
keep the plain visual tokens. A sample without
visual tokens has nothing to update: it is answered from its question alone, whatever supporting modalities it has.

The paper adds a second modality to a frozen first one (section 4.4) and does not say how their updates combine; `order`
offers both ways. Training some modalities only (`fit(modalities=[...])`) leaves the other patches as they are.

Shape letters: B samples, F frames, S visual tokens of a frame, K with newlines, T side steps, N side tokens of a step,
E width before the projector, L language-model width.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, ClassVar, Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor

from crema_core.errors import OptionsError
from crema_core.fusion.base import Fusion, FusionPlan, FusionSizes, ModalitySet, Reading, spread
from crema_core.fusion.connector import VisualLayout
from crema_core.tokens import OWN_LAYOUT, ModalityTokens, Segment
from crema_pave.alignment import Alignment
from crema_pave.compose import add_patches, chain_patches
from crema_pave.connectors import BEFORE_PROJECTOR, FeatureConnector, visual_connector, warn_of_lost
from crema_pave.newlines import Newlines, lay_out
from crema_pave.patch import PavePatch, SideMap
from crema_pave.reading import LayerReading
from crema_pave.rotary import Rotary

Queries = Literal["inner", "projected", "learnable"]
Order = Literal["parallel", "chained"]


class PaveFusion(Fusion):
    """One patch per supporting modality, added to the visual tokens.

    Args:
        supporting: names of the supporting modalities.
        width: L.
        visual: what the visual tokens are.
        num_tokens: S of a square clip, which learnable queries are made for.
        token_widths: by supporting modality, width of its features; L where not named.
        num_layers, embed_dim, num_heads, rotary, alignment, shared_value, side_map, conv_stages: of every patch, see
            `PavePatch`.
        queries: the queries of the side tokens: "inner" visual tokens before the projector (released), "projected" the
            tokens that are updated (the paper's text), or "learnable" vectors (its Table 4). None: "inner" where the
            backbone can tell them, else "projected".
        num_frames: most frames learnable queries can serve.
        newlines: where the model's learned newline is placed in a clip, see `add_newlines`: "grid" as PAVE, "one_token"
            as LLaVA-OneVision in transformers. None: "grid" where the model has a newline, else "none".
        order: "parallel" adds every patch's update of the original tokens; "chained" lets a patch ask with the tokens
            the patches before it, in the order they were added, have updated.

    Raises:
        OptionsError: for settings that are unknown or do not fit each other or the backbone.
    """

    major_connector = staticmethod(visual_connector)
    supporting_connector = FeatureConnector.of
    one_query_count: ClassVar[bool] = False
    shows_reads: ClassVar[bool] = True

    @classmethod
    def plan(cls, options: Mapping[str, Any]) -> FusionPlan:
        """Return the plan, which has visual tokens read before the projector where they are the queries."""
        return replace(super().plan(options), reads_inner=options.get("queries") in (None, "inner"))

    @classmethod
    def for_sizes(cls, supporting: Sequence[str], sizes: FusionSizes, **options: Any) -> Fusion:
        """Build the strategy.

        Raises:
            OptionsError: when the major modality's tokens are not a video language model's own, or for a bad option.
        """
        if sizes.visual is None:
            raise OptionsError(
                "fusion='pave' updates a vision-language model's own visual tokens, and the major modality's tokens "
                "are none. Accepted: a backbone of that kind. Use "
                "backbone='llava-hf/llava-onevision-qwen2-0.5b-ov-hf'."
            )
        options = {
            "token_widths": sizes.token_widths,
            "num_tokens": sizes.major_queries or sizes.num_queries,
            **options,
        }
        return cls(supporting, width=sizes.width, visual=sizes.visual, **options)

    def __init__(
        self,
        supporting: Sequence[str],
        *,
        width: int,
        visual: VisualLayout,
        num_tokens: int,
        token_widths: Mapping[str, int] | None = None,
        num_layers: int = 2,
        embed_dim: int = 512,
        num_heads: int = 4,
        rotary: Rotary = "none",
        alignment: Alignment = "time",
        shared_value: bool = False,
        side_map: SideMap = "linear",
        conv_stages: Sequence[Sequence[int]] = (),
        queries: Queries | None = None,
        num_frames: int = 32,
        newlines: Newlines | None = None,
        order: Order = "parallel",
    ) -> None:
        super().__init__((), width=width, num_queries=num_tokens)
        queries = queries or ("inner" if visual.inner_width else "projected")
        _check("queries", queries, get_args(Queries))
        _check("order", order, get_args(Order))
        _check("newlines", newlines or "grid", get_args(Newlines))
        if queries == "inner" and not visual.inner_width:
            raise OptionsError(
                "queries='inner' came, and the visual tokens of this backbone are not known before its projector. "
                "Accepted: 'projected' and 'learnable'. Leave queries out for 'projected'."
            )
        if order == "chained" and queries != "projected":
            raise OptionsError(
                f"order='chained' with queries={queries!r}: no patch would see what another wrote. Chained patches ask "
                "with the tokens they update. Use queries='projected', or order='parallel'."
            )
        has_newline = visual.closing == 1
        if newlines not in (None, "none") and not has_newline:
            raise OptionsError(
                f"newlines={newlines!r} came, and this backbone has no newline token. Accepted: 'none'. Leave newlines "
                "out."
            )
        self.newlines: Newlines = newlines or ("grid" if has_newline else "none")
        self.queries, self.order = queries, order
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
            "tokens_per_frame": num_tokens,
        }
        with torch.device("meta"):  # refuses bad settings also where there is no supporting modality yet
            self._patch(width)
        for name in supporting:
            self.add_supporting(name, total=len(supporting), token_width=(token_widths or {}).get(name))

    def make_block(self, name: str, *, total: int, zero: bool) -> None:
        """Add a patch; it changes nothing until it is trained, whether asked to or not."""
        self.blocks[name] = self._patch(self.token_widths[name])

    def forward(self, modalities: ModalitySet) -> list[Segment]:
        """Return the visual tokens with every supporting modality's update, and their newlines; without a prefix."""
        self._warned = self._warned or warn_of_lost(modalities, "PAVE updates the tokens of")
        if modalities.major not in modalities.tokens:
            return []
        major = modalities.tokens[modalities.major]
        values_RFKW, mask_RFK = lay_out(major, self._updated_own(modalities), self.newlines)
        return [
            modalities.segment(modalities.major)._replace(
                values=spread(values_RFKW, major.rows, modalities.num_samples),
                mask=spread(mask_RFK, major.rows, modalities.num_samples),
            )
        ]

    def _updated_own(self, modalities: ModalitySet) -> Tensor:
        """Return the visual tokens `(R, F, S, W)`, updated where they are of a frame."""
        major = modalities.tokens[modalities.major]
        of_frame_RF1 = major.extras[OWN_LAYOUT].prod(-1, keepdim=True)
        own_RFSL, deep = major.values[..., : self.width], major.values[..., self.width :]
        updated_RFSL = self._updated(modalities, own_RFSL)
        is_own_RFS = torch.arange(own_RFSL.shape[2], device=own_RFSL.device) < of_frame_RF1
        return torch.cat([torch.where(is_own_RFS[..., None], updated_RFSL, own_RFSL), deep], dim=-1)

    def _updated(self, modalities: ModalitySet, tokens_RFSL: Tensor) -> Tensor:
        names = [name for name in self.supporting if name in modalities.tokens]
        patches = [partial(self._update, name, modalities) for name in names]
        if self.order == "chained":
            return chain_patches(tokens_RFSL, patches)
        extras = modalities.tokens[modalities.major].extras
        return add_patches(tokens_RFSL, patches, queries=extras[BEFORE_PROJECTOR] if self.queries == "inner" else None)

    def _update(self, name: str, modalities: ModalitySet, asked: Tensor) -> Tensor:
        """Return one patch's update `(R, F, S, L)` of the R samples with visual tokens, 0 without the modality."""
        major, side = modalities.tokens[modalities.major], modalities.tokens[name]
        place = torch.full((modalities.num_samples,), -1, device=side.rows.device)
        place = place.index_copy(0, side.rows, torch.arange(len(side.rows), device=side.rows.device))[major.rows]
        update = asked.new_zeros(*asked.shape[:3], self.width)
        for grid, rows in self._by_grid(major, place >= 0):
            if len(rows) == len(major.rows) == len(side.rows) == modalities.num_samples:
                mine, own = side, major
            else:
                mine, own = side.select(place[rows], major.rows[rows]), major.select(rows, major.rows[rows])
            count = grid[0] * grid[1]
            reads: list[LayerReading] | None = None if modalities.watch is None else []
            added: Tensor = self.blocks[name](
                asked[rows, :, :count],
                side=mine.values,
                frame_mask=own.mask,
                side_mask=mine.mask if mine.token_mask is None else mine.token_mask,
                frame_times=own.times,
                side_times=mine.times,
                query_grid=grid,
                reads=reads,
            )
            if modalities.watch is not None and reads:
                by_place, by_token = (torch.stack(own, dim=1) for own in zip(*reads, strict=True))
                seen = Reading(major.rows[rows], by_place, by_token, added.detach().float().norm(dim=-1))
                modalities.watch.reads.setdefault(name, []).append(seen)
            update = update.index_copy(0, rows, F.pad(added, (0, 0, 0, asked.shape[2] - count)).to(update.dtype))
        return update

    def _by_grid(self, major: ModalityTokens, both_R: Tensor) -> list[tuple[tuple[int, int], Tensor]]:
        """Return the positions of samples that have both modalities, by the grid of a frame where it matters."""
        rows = both_R.nonzero().squeeze(1)
        layout_RF2 = major.extras[OWN_LAYOUT]
        if not len(rows):
            return []
        if not self._needs_grid:
            return [((1, int(layout_RF2.prod(-1).max())), rows)]
        grids_M2, group_M = layout_RF2[rows, 0].unique(dim=0, return_inverse=True)
        return [
            ((int(grid[0]), int(grid[1])), rows[group_M == number]) for number, grid in enumerate(grids_M2.tolist())
        ]

    @property
    def _needs_grid(self) -> bool:
        """Whether an update depends on rows and columns, or on how many tokens a frame has."""
        return self.queries == "learnable" or self._settings["rotary"] in ("space_time", "released_3d")

    def _patch(self, side_dim: int) -> PavePatch:
        return PavePatch(side_dim, **self._settings)


def _check(name: str, value: str, accepted: Sequence[str]) -> None:
    if value not in accepted:
        raise OptionsError(
            f"{name}={value!r} is not known to PAVE. Accepted: {', '.join(accepted)}. Use {name}={accepted[0]!r}, the "
            "default."
        )
