"""CREMA's strategies: concatenation, and four that merge supporting senses into as many tokens as one sense has.

The paper's choice is `SelfGatedFusion` (equation 3); the others are the alternatives of its Table 8, which names the
last two without formulas, so widths, heads and dense routing are ours. The fused tokens follow the major sense's
tokens, so the language model sees twice the major length however many senses there are.

Shape letters: B samples, R samples that have a sense, T grid steps, Q queries, K supporting tokens of a step, L width,
N senses.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from crema_core.errors import OptionsError
from crema_core.fusion.align import Grid
from crema_core.fusion.base import Fusion, FusionSizes, Layout, SenseSet, spread
from crema_core.tokens import Segment


class ConcatFusion(Fusion):
    """Every sense keeps its own tokens: the paper's baseline without fusion, and its zero-shot mode (A.5).

    The major sense comes first, then the others in the order of `build`, each after its own prefix; no parameters.
    """

    one_query_count: ClassVar[bool] = False

    def forward(self, senses: SenseSet) -> list[Segment]:
        """Return the senses side by side."""
        return self.side_by_side(senses, senses.tokens)


class LinearFusion(Fusion):
    """One linear map over the channel-concatenated senses, kept as a sum of per-sense blocks (Table 8, "linear").

    Args:
        supports: names of the supporting senses.
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
        supports: Sequence[str],
        *,
        width: int,
        num_queries: int,
        append: bool = True,
        layout: Layout = "paper",
    ) -> None:
        super().__init__(supports, width=width, num_queries=num_queries, layout=layout)
        self.append = append
        self.complete()

    @classmethod
    def for_sizes(cls, supports: Sequence[str], sizes: FusionSizes, **options: Any) -> Fusion:
        """Build the strategy.

        Raises:
            OptionsError: when fused tokens are to be added to major ones of another number.
        """
        major = sizes.major_queries
        if not options.get("append", True) and major not in (None, sizes.num_queries):
            raise OptionsError(
                f"append=False adds {sizes.num_queries} fused tokens to {major} of the major sense, frame by frame. "
                "Both must be as many. Leave append out, or set mmqa={'num_queries': " + f"{major}}}."
            )
        return super().for_sizes(supports, sizes, **options)

    def make_block(self, name: str, *, total: int, zero: bool) -> None:
        """Add a `(L, L)` block, initialised as the columns of one `Linear(total * L, L)`."""
        block = nn.Linear(self.width, self.width, bias=False)
        bound = 0.0 if zero else 1 / math.sqrt(self.width * total)
        nn.init.uniform_(block.weight, -bound, bound)
        self.blocks[name] = block

    def make_shared(self) -> None:
        """Add the bias, initialised as that of one `Linear(len(supports) * L, L)`."""
        bound = 1 / math.sqrt(self.width * len(self.supports))
        self.bias = nn.Parameter(torch.empty(self.width).uniform_(-bound, bound))

    def gate(self, fused: Tensor) -> Tensor | None:
        """Return how far the gate opens, of the same shape; None: plain linear fusion has no gate."""
        return None

    def forward(self, senses: SenseSet) -> list[Segment]:
        """Fuse the supporting senses on the grid; samples without any get no fused tokens."""
        known = self.known(senses)
        if not known:
            return self.side_by_side(senses, senses.tokens)
        grid = senses.grid()
        fused, present_B = self._sum(senses, known, grid)
        gate = self.gate(fused)
        if gate is not None:
            fused = fused * gate
        if senses.watch is not None:
            senses.watch.gate = None if gate is None else gate.detach().float().mean(-1)
        mask_BT = grid.mask & present_B[:, None]
        if self.append:
            return self.arrange(senses, fused, mask_BT, known)
        values = fused * mask_BT[:, :, None, None]
        if senses.major in senses.tokens:
            major = senses.segment(senses.major)
            more = mask_BT.shape[1] - major.mask.shape[1]  # a sample without the major modality may have more steps
            values = values + nn.functional.pad(major.values, (0, 0, 0, 0, 0, more))
            mask_BT = mask_BT | nn.functional.pad(major.mask, (0, more))
        added = Segment(values, mask_BT, senses.prefixes[senses.major])
        return [added] + [senses.segment(name) for name in senses.supports if name not in known]

    def _sum(self, senses: SenseSet, known: Sequence[str], grid: Grid) -> tuple[Tensor, Tensor]:
        batch, steps = grid.mask.shape
        fused_BTQL = self.bias.expand(batch, steps, self.num_queries, self.width)
        for name in known:
            aligned_RTQL = senses.aligned(name, grid, by_time=self.layout == "paper")
            added_RTQL = self.blocks[name](aligned_RTQL)
            if senses.watch is not None:
                senses.watch.parts[name] = added_RTQL.detach().float().norm(dim=-1).mean(-1)
            fused_BTQL = fused_BTQL + spread(added_RTQL, senses.tokens[name].rows, batch)
        return fused_BTQL, torch.stack([senses.present(name) for name in known]).any(0)


class SelfGatedFusion(LinearFusion):
    """Equation 3: f = FC([h_1; ...; h_n]), g = f * sigmoid(f). The gate is the fused vector itself, no parameter."""

    def gate(self, fused: Tensor) -> Tensor:
        """Return `sigmoid(f)`."""
        return torch.sigmoid(fused)


class MixtureFusion(Fusion):
    """Mixture of experts (Table 8): each sense's expert is a linear map, its router scores the mean of its tokens.

    A softmax over the senses a sample really has gives the mixing weights: dropping senses would hide what they say.
    """

    def make_block(self, name: str, *, total: int, zero: bool) -> None:
        """Add the sense's expert."""
        self.blocks[name] = Expert(self.width, zero=zero)

    def forward(self, senses: SenseSet) -> list[Segment]:
        """Return major tokens, then the mixture; samples without supports get none."""
        known = self.known(senses)
        if not known:
            return self.side_by_side(senses, senses.tokens)
        grid = senses.grid()
        batch, steps = grid.mask.shape
        outputs, scores = [], []
        for name in known:
            tokens = senses.tokens[name]
            values, score = self.blocks[name](senses.aligned(name, grid))
            outputs.append(spread(values, tokens.rows, batch))
            absent = score.new_full((batch, steps), -torch.inf)
            scores.append(absent.index_copy(0, tokens.rows, score))
        scores_BTN = torch.stack(scores, dim=-1)
        present_B = scores_BTN.isfinite().any(-1).any(-1)
        weights_BTN = scores_BTN.masked_fill(~present_B[:, None, None], 0).softmax(-1)
        fused = torch.einsum("btn,nbtql->btql", weights_BTN, torch.stack(outputs))
        return self.arrange(senses, fused, grid.mask & present_B[:, None], known)


class Expert(nn.Module):
    """One sense's expert and its router score."""

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


class CrossAttentionFusion(Fusion):
    """Cross-attention (Table 8): for every frame queries of the major sense read all supporting tokens of that frame.

    Learned query vectors plus the major sense's tokens, where a sample has them, pass one pre-norm multi-head attention
    layer of the language model's width. An embedding per sense tells the keys of different senses apart.

    Args:
        supports: names of the supporting senses.
        width: L, divisible by `num_heads`.
        num_queries: Q.
        num_heads: attention heads.
    """

    def __init__(self, supports: Sequence[str], *, width: int, num_queries: int, num_heads: int = 8) -> None:
        super().__init__(supports, width=width, num_queries=num_queries)
        self.num_heads = num_heads
        self.complete()

    def make_shared(self) -> None:
        """Add queries, norms and the attention layer."""
        self.queries = nn.Parameter(torch.empty(self.num_queries, self.width).normal_(std=0.02))
        self.query_norm, self.key_norm = nn.LayerNorm(self.width), nn.LayerNorm(self.width)
        self.attention = nn.MultiheadAttention(self.width, self.num_heads, batch_first=True)

    def make_block(self, name: str, *, total: int, zero: bool) -> None:
        """Add the sense's embedding."""
        self.blocks[name] = SenseEmbedding(self.width)

    def forward(self, senses: SenseSet) -> list[Segment]:
        """Return major tokens, then the attended ones; samples without supports get none."""
        known = self.known(senses)
        if not known:
            return self.side_by_side(senses, senses.tokens)
        grid = senses.grid()
        batch, steps = grid.mask.shape
        keys, masks = [], []
        for name in known:
            aligned = self.blocks[name](senses.aligned(name, grid))
            keys.append(spread(aligned, senses.tokens[name].rows, batch))
            masks.append(senses.present(name)[:, None].expand(-1, aligned.shape[2]))
        queries_BTQL = self.queries.expand(batch, steps, -1, -1)
        if senses.major in senses.tokens:
            major = senses.segment(senses.major).values
            queries_BTQL = queries_BTQL + nn.functional.pad(major, (0, 0, 0, 0, 0, steps - major.shape[1]))
        keys_BTKL, mask_BK = torch.cat(keys, dim=2), torch.cat(masks, dim=1)
        fused = self._attend(queries_BTQL, keys_BTKL, mask_BK)
        return self.arrange(senses, fused, grid.mask & mask_BK.any(1, keepdim=True), known)

    def _attend(self, queries_BTQL: Tensor, keys_BTKL: Tensor, mask_BK: Tensor) -> Tensor:
        # A sample without supports would attend to nothing (NaN): it keeps all keys, its result is masked away.
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


class SenseEmbedding(nn.Module):
    """Adds one learned vector to all tokens of a sense."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.vector = nn.Parameter(torch.zeros(width))

    def forward(self, tokens: Tensor) -> Tensor:
        """Return `tokens` `(..., L)` plus the vector."""
        return tokens + self.vector
