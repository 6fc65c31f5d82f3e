"""CREMA's strategies: concatenation, and four that merge supporting modalities into as many tokens as one modality has.

The paper's choice is `SelfGatedFusion` (equation 3). The other three differ from it in one thing each: no gate, experts
with a router, or attention in place of the sum. Those of the paper's Table 8 also merge the major modality; they are in
`crema_core.fusion.all_tokens` and `crema_core.model.mixture`. The fused tokens follow the major modality's tokens, so
the language model sees twice the major length however many modalities there are.

Shape letters: B samples, R samples that have a modality, T grid steps, Q queries, K supporting tokens of a step, L
width, N modalities.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from crema_core.errors import OptionsError
from crema_core.fusion.align import Grid
from crema_core.fusion.base import Fusion, FusionSizes, Layout, ModalitySet, spread
from crema_core.tokens import Segment


class ConcatFusion(Fusion):
    """Every modality keeps its own tokens: the paper's baseline without fusion, and its zero-shot mode (A.5).

    The major modality comes first, then the others in the order of `build`, each after its own prefix; no parameters.
    """

    one_query_count: ClassVar[bool] = False

    def forward(self, modalities: ModalitySet) -> list[Segment]:
        """Return the modalities side by side."""
        return self.side_by_side(modalities, modalities.tokens)


class UngatedFusion(Fusion):
    """`SelfGatedFusion` without its gate: one linear map over the channel-concatenated supporting modalities, kept as a
    sum of per-modality blocks.

    Args:
        supporting: names of the supporting modalities.
        width: L.
        num_queries: Q.
        append: put fused tokens after the major ones; False adds them, a variant of the released code that the paper
            does not describe.
        layout: see `Fusion`.
    """

    starts_at_zero = True
    test_options = ({}, {"append": False}, {"layout": "released"})

    def __init__(
        self,
        supporting: Sequence[str],
        *,
        width: int,
        num_queries: int,
        append: bool = True,
        layout: Layout = "paper",
    ) -> None:
        super().__init__(supporting, width=width, num_queries=num_queries, layout=layout)
        self.append = append
        self.complete()

    @classmethod
    def for_sizes(cls, supporting: Sequence[str], sizes: FusionSizes, **options: Any) -> Fusion:
        """Build the strategy.

        Raises:
            OptionsError: when fused tokens are to be added to major ones of another number.
        """
        major = sizes.major_queries
        if not options.get("append", True) and major not in (None, sizes.num_queries):
            raise OptionsError(
                f"append=False adds {sizes.num_queries} fused tokens to {major} of the major modality, frame by frame. "
                "Both must be as many. Leave append out, or set mmqa={'num_queries': " + f"{major}}}."
            )
        return super().for_sizes(supporting, sizes, **options)

    def make_block(self, name: str, *, total: int, zero: bool) -> None:
        """Add a `(L, L)` block, initialised as the columns of one `Linear(total * L, L)`."""
        block = nn.Linear(self.width, self.width, bias=False)
        bound = 0.0 if zero else 1 / math.sqrt(self.width * total)
        nn.init.uniform_(block.weight, -bound, bound)
        self.blocks[name] = block

    def make_shared(self) -> None:
        """Add the bias, initialised as that of one `Linear(len(supporting) * L, L)`."""
        bound = 1 / math.sqrt(self.width * len(self.supporting))
        self.bias = nn.Parameter(torch.empty(self.width).uniform_(-bound, bound))

    def zero_shared(self) -> None:
        """Start the bias at zero."""
        nn.init.zeros_(self.bias)

    def gate(self, fused: Tensor) -> Tensor | None:
        """Return how far the gate opens, of the same shape; None: ungated."""
        return None

    def forward(self, modalities: ModalitySet) -> list[Segment]:
        """Fuse the supporting modalities on the grid; samples without any get no fused tokens."""
        known = self.known(modalities)
        if not known:
            return self.side_by_side(modalities, modalities.tokens)
        grid = modalities.grid()
        fused, present_B = self._sum(modalities, known, grid)
        gate = self.gate(fused)
        if gate is not None:
            fused = fused * gate
        if modalities.watch is not None:
            modalities.watch.gate = None if gate is None else gate.detach().float().mean(-1)
        mask_BT = grid.mask & present_B[:, None]
        if self.append:
            return self.arrange(modalities, fused, mask_BT, known)
        values = fused * mask_BT[:, :, None, None]
        if modalities.major in modalities.tokens:
            major = modalities.segment(modalities.major)
            more = mask_BT.shape[1] - major.mask.shape[1]  # a sample without the major modality may have more steps
            values = values + nn.functional.pad(major.values, (0, 0, 0, 0, 0, more))
            mask_BT = mask_BT | nn.functional.pad(major.mask, (0, more))
        added = Segment(values, mask_BT, modalities.prefixes[modalities.major])
        return [added] + [modalities.segment(name) for name in modalities.supporting if name not in known]

    def _sum(self, modalities: ModalitySet, known: Sequence[str], grid: Grid) -> tuple[Tensor, Tensor]:
        batch, steps = grid.mask.shape
        fused_BTQL = self.bias.expand(batch, steps, self.num_queries, self.width)
        for name in known:
            aligned_RTQL = modalities.aligned(name, grid, by_time=self.layout == "paper")
            added_RTQL = self.blocks[name](aligned_RTQL)
            if modalities.watch is not None:
                modalities.watch.parts[name] = added_RTQL.detach().float().norm(dim=-1).mean(-1)
            fused_BTQL = fused_BTQL + spread(added_RTQL, modalities.tokens[name].rows, batch)
        return fused_BTQL, torch.stack([modalities.present(name) for name in known]).any(0)


class SelfGatedFusion(UngatedFusion):
    """Equation 3: f = FC([h_1; ...; h_n]), g = f * sigmoid(f). The gate is the fused vector itself, no parameter."""

    def gate(self, fused: Tensor) -> Tensor:
        """Return `sigmoid(f)`."""
        return torch.sigmoid(fused)


class TokenMixtureFusion(Fusion):
    """Mixture of experts behind the Q-Former: each supporting modality's expert is a linear map of its tokens, and its
    router scores their mean.

    A softmax over the modalities a sample really has gives the mixing weights: dropping modalities would hide what they
    say.
    """

    def make_block(self, name: str, *, total: int, zero: bool) -> None:
        """Add the modality's expert."""
        self.blocks[name] = Expert(self.width, zero=zero)

    def forward(self, modalities: ModalitySet) -> list[Segment]:
        """Return major tokens, then the mixture; samples without supporting modalities get none."""
        known = self.known(modalities)
        if not known:
            return self.side_by_side(modalities, modalities.tokens)
        grid = modalities.grid()
        batch, steps = grid.mask.shape
        outputs, scores = [], []
        for name in known:
            tokens = modalities.tokens[name]
            values, score = self.blocks[name](modalities.aligned(name, grid))
            outputs.append(spread(values, tokens.rows, batch))
            absent = score.new_full((batch, steps), -torch.inf)
            scores.append(absent.index_copy(0, tokens.rows, score))
        scores_BTN = torch.stack(scores, dim=-1)
        present_B = torch.stack([modalities.present(name) for name in known]).any(0)
        weights_BTN = scores_BTN.masked_fill(~present_B[:, None, None], 0).softmax(-1)
        fused = torch.einsum("btn,nbtql->btql", weights_BTN, torch.stack(outputs))
        return self.arrange(modalities, fused, grid.mask & present_B[:, None], known)


class Expert(nn.Module):
    """One modality's expert and its router score."""

    def __init__(self, width: int, *, zero: bool) -> None:
        super().__init__()
        self.expert = nn.Linear(width, width)
        self.router = nn.Linear(width, 1)
        if zero:
            nn.init.zeros_(self.expert.weight)
            nn.init.zeros_(self.expert.bias)

    def forward(self, tokens_RTQL: Tensor) -> tuple[Tensor, Tensor]:
        """Return expert tokens `(R, T, Q, L)` and scores `(R, T)`."""
        return self.expert(tokens_RTQL), self.router(tokens_RTQL.mean(2)).squeeze(-1)


class SupportingCrossAttentionFusion(Fusion):
    """Cross-attention to the supporting modalities: for every frame queries of the major modality read all their tokens
    of that frame.

    Learned query vectors plus the major modality's tokens, where a sample has them, pass one pre-norm multi-head
    attention layer of the language model's width. An embedding per modality tells the keys of different modalities
    apart.

    Args:
        supporting: names of the supporting modalities.
        width: L, divisible by `num_heads`.
        num_queries: Q.
        num_heads: attention heads.
    """

    def __init__(self, supporting: Sequence[str], *, width: int, num_queries: int, num_heads: int = 8) -> None:
        super().__init__(supporting, width=width, num_queries=num_queries)
        self.num_heads = num_heads
        self.complete()

    def make_shared(self) -> None:
        """Add queries, norms and the attention layer."""
        self.queries = nn.Parameter(torch.empty(self.num_queries, self.width).normal_(std=0.02))
        self.query_norm, self.key_norm = nn.LayerNorm(self.width), nn.LayerNorm(self.width)
        self.attention = nn.MultiheadAttention(self.width, self.num_heads, batch_first=True)

    def make_block(self, name: str, *, total: int, zero: bool) -> None:
        """Add the modality's embedding."""
        self.blocks[name] = ModalityEmbedding(self.width)

    def forward(self, modalities: ModalitySet) -> list[Segment]:
        """Return major tokens, then the attended ones; samples without supporting modalities get none."""
        known = self.known(modalities)
        if not known:
            return self.side_by_side(modalities, modalities.tokens)
        grid = modalities.grid()
        batch, steps = grid.mask.shape
        keys, masks = [], []
        for name in known:
            aligned = self.blocks[name](modalities.aligned(name, grid))
            keys.append(spread(aligned, modalities.tokens[name].rows, batch))
            masks.append(modalities.present(name)[:, None].expand(-1, aligned.shape[2]))
        queries_BTQL = self.queries.expand(batch, steps, -1, -1)
        if modalities.major in modalities.tokens:
            major = modalities.segment(modalities.major).values
            if major.shape[2] != self.num_queries:  # a vision-language model's own tokens: the mean of a step
                major = major[..., : self.width].mean(2, keepdim=True).to(queries_BTQL.dtype)
            queries_BTQL = queries_BTQL + nn.functional.pad(major, (0, 0, 0, 0, 0, steps - major.shape[1]))
        keys_BTKL, mask_BK = torch.cat(keys, dim=2), torch.cat(masks, dim=1)
        fused = self._attend(queries_BTQL, keys_BTKL, mask_BK)
        return self.arrange(modalities, fused, grid.mask & mask_BK.any(1, keepdim=True), known)

    def _attend(self, queries_BTQL: Tensor, keys_BTKL: Tensor, mask_BK: Tensor) -> Tensor:
        # A sample without supporting modalities would attend to nothing (NaN): it keeps all keys, its result is masked
        # away.
        mask_BK = mask_BK | ~mask_BK.any(1, keepdim=True)
        keys = self.key_norm(keys_BTKL.flatten(0, 1))
        attended, _ = self.attention(
            self.query_norm(queries_BTQL.flatten(0, 1)),
            keys,
            keys,
            key_padding_mask=~mask_BK.repeat_interleave(queries_BTQL.shape[1], dim=0),
            need_weights=False,
        )
        result: Tensor = attended.unflatten(0, queries_BTQL.shape[:2])
        return result


class ModalityEmbedding(nn.Module):
    """Adds one learned vector to all tokens of a modality."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.vector = nn.Parameter(torch.zeros(width))

    def forward(self, tokens: Tensor) -> Tensor:
        """Return `tokens` `(..., L)` plus the vector."""
        return tokens + self.vector
