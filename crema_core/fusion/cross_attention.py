"""Cross-attention fusion (the paper's Table 8 alternative): queries of the major sense read all supporting tokens.

For every frame, learned query vectors plus the major sense's tokens (where a sample has them) attend to the supporting
senses' tokens of that frame; the result follows the major tokens. The paper names the variant without formulas, so
width and heads are ours: one pre-norm multi-head attention layer of the language model's width.

Shape letters: B samples, T grid steps, Q queries, K supporting tokens of a step, L width.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from crema_core.fusion.base import Fusion, SenseSet, spread
from crema_core.tokens import Segment


class CrossAttentionFusion(Fusion):
    """One attention layer over the supporting senses, with an embedding per sense.

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
        """Add the sense's embedding, which tells the keys of different senses apart."""
        self.blocks[name] = SenseEmbedding(self.width)

    def forward(self, senses: SenseSet) -> list[Segment]:
        """Return major tokens, then the attended ones; samples without supports get none."""
        known = [name for name in senses.supports if name in self.blocks]
        if not known:
            return self.side_by_side(senses, senses.tokens)
        grid = senses.grid()
        batch, steps = grid.mask.shape
        keys, masks = [], []
        for name in known:
            tokens = senses.tokens[name]
            aligned = self.blocks[name](senses.aligned(name, grid))
            keys.append(spread(aligned, tokens.rows, batch))
            present = torch.zeros(batch, dtype=torch.bool, device=grid.mask.device).index_fill(0, tokens.rows, True)
            masks.append(present[:, None].expand(-1, aligned.shape[2]))
        keys_BTKL, mask_BK = torch.cat(keys, dim=2), torch.cat(masks, dim=1)
        fused = self._attend(self._queries(senses, batch, steps), keys_BTKL, mask_BK)
        return self.arrange(senses, fused, grid.mask & mask_BK.any(1, keepdim=True), known)

    def _queries(self, senses: SenseSet, batch: int, steps: int) -> Tensor:
        queries_BTQL = self.queries.expand(batch, steps, -1, -1)
        if senses.major in senses.tokens:
            major = senses.segment(senses.major).values
            queries_BTQL = queries_BTQL + nn.functional.pad(major, (0, 0, 0, 0, 0, steps - major.shape[1]))
        return queries_BTQL

    def _attend(self, queries_BTQL: Tensor, keys_BTKL: Tensor, mask_BK: Tensor) -> Tensor:
        # A sample without supports would attend to nothing (NaN): it keeps all keys, its result is masked away.
        mask_BK = mask_BK | ~mask_BK.any(1, keepdim=True)
        steps = queries_BTQL.shape[1]
        keys = self.key_norm(keys_BTKL.flatten(0, 1))
        attended, _ = self.attention(
            self.query_norm(queries_BTQL.flatten(0, 1)),
            keys,
            keys,
            key_padding_mask=~mask_BK.repeat_interleave(steps, dim=0),
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
