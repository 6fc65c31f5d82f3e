"""One layer of a PAVE patch: frames' tokens read their own group of side tokens, then a feed-forward block.

As released (PAVE section 3.3): no LayerNorm on queries or keys, no output projection, no dropout, and a feed-forward
block of pre-norm, two bias-free maps and exact GELU, both with residuals.

Shape letters: B samples, F frames, S tokens of a frame, T side steps, N tokens of a step, G steps of the longest
group, D hidden width, E width of the mapped side tokens, H heads, P channel pairs of a head.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from crema_pave.grouping import gather_index
from crema_pave.recompute import map_again
from crema_pave.rotary import Angles, rotate


class KeyPlan(NamedTuple):
    """How keys become groups; the same for all layers of a patch.

    Attributes:
        steps: `(B * F * G,)` int64 into the flattened `(B * T)` steps, or None where all groups lie side by side in
            order and a view is enough.
        group_size: G.
        mask: `(B * F, 1, 1, G * N)` bool, or None where every key is real.
    """

    steps: Tensor | None
    group_size: int
    mask: Tensor | None


def plan_keys(groups: Tensor, token_mask: Tensor) -> KeyPlan:
    """Turn groups into a plan.

    Args:
        groups: `(B, F, T)` bool.
        token_mask: `(B, T, N)` bool, real side tokens.

    Returns:
        The plan; a frame without any key reads arbitrary ones, so that its (unused) result stays finite.
    """
    batch, num_frames, num_steps = groups.shape
    index, mask = gather_index(groups)
    size = index.shape[2]
    offset = torch.arange(batch, device=index.device)[:, None, None] * num_steps
    flat = (index + offset).flatten()
    keys = (token_mask.flatten(0, 1)[flat].unflatten(0, index.shape) & mask[..., None]).flatten(2)
    keys = (keys | ~keys.any(2, keepdim=True)).flatten(0, 1)[:, None, None]
    in_order = num_frames * size == num_steps and torch.equal(flat, torch.arange(flat.numel(), device=flat.device))
    return KeyPlan(None if in_order else flat, size, None if bool(keys.all()) else keys)


class FrameAttention(nn.Module):
    """Attention of every frame's tokens to the side tokens of its group.

    Args:
        hidden_dim: D, a multiple of `num_heads`.
        side_dim: E.
        num_heads: H.
        shared_value: use the key projection for values too (the released code, which stores a value projection and
            never calls it); else values have their own (the paper).
    """

    def __init__(self, hidden_dim: int, *, side_dim: int, num_heads: int, shared_value: bool = False) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.query, self.key = nn.Linear(hidden_dim, hidden_dim), nn.Linear(side_dim, hidden_dim)
        self.value = None if shared_value else nn.Linear(side_dim, hidden_dim)

    def forward(self, hidden_BFSD: Tensor, *, side: Tensor, plan: KeyPlan, angles: Angles | None = None) -> Tensor:
        """Attend.

        Args:
            hidden_BFSD: `(B, F, S, D)`.
            side: `(B, T, N, E)`.
            plan: of the batch.
            angles: rotation of queries and keys (never of values), or None.

        Returns:
            `(B, F, S, D)`.
        """
        query, key = self._query_key(hidden_BFSD, side)
        value = key
        if self.value is not None:
            value = self.value(side).unflatten(-1, (self.num_heads, -1))
        if angles is not None:
            query, key = rotate(query, angles.queries), rotate(key, angles.keys)
        keys = _grouped(key, plan)
        values = keys if value is key else _grouped(value, plan)
        queries = query.flatten(0, 1).transpose(1, 2)  # (B * F, H, S, D / H)
        attended = F.scaled_dot_product_attention(queries, keys, values, attn_mask=plan.mask)
        result: Tensor = attended.transpose(1, 2).flatten(2).unflatten(0, hidden_BFSD.shape[:2])
        return result

    @torch.no_grad()
    def weights(self, hidden_BFSD: Tensor, *, side: Tensor, plan: KeyPlan, angles: Angles | None = None) -> Tensor:
        """Return the weights with which `forward` reads, computed a second time: fused attention never forms them.

        Args:
            hidden_BFSD, side, plan, angles: of `forward`.

        Returns:
            `(B, F, S, G, N)` float32, mean over heads; each token's sum to 1 over its frame's group.
        """
        query, key = self._query_key(hidden_BFSD, side)
        if angles is not None:
            query, key = rotate(query, angles.queries), rotate(key, angles.keys)
        keys, queries = _grouped(key, plan), query.flatten(0, 1).transpose(1, 2)
        scores = (queries @ keys.transpose(-1, -2)).float() * queries.shape[-1] ** -0.5  # (B * F, H, S, G * N)
        if plan.mask is not None:
            scores = scores.masked_fill(~plan.mask, -torch.inf)
        weights: Tensor = scores.softmax(-1).mean(1).unflatten(0, hidden_BFSD.shape[:2])
        grouped: Tensor = weights.unflatten(-1, (plan.group_size, -1))
        return grouped

    def _query_key(self, hidden_BFSD: Tensor, side: Tensor) -> tuple[Tensor, Tensor]:
        query: Tensor = self.query(hidden_BFSD).unflatten(-1, (self.num_heads, -1))  # (B, F, S, H, D / H)
        key: Tensor = self.key(side).unflatten(-1, (self.num_heads, -1))  # (B, T, N, H, D / H)
        return query, key


def _grouped(tokens_BTNHd: Tensor, plan: KeyPlan) -> Tensor:
    steps = tokens_BTNHd.flatten(0, 1)
    if plan.steps is not None:
        steps = steps.index_select(0, plan.steps)
    groups: Tensor = steps.unflatten(0, (-1, plan.group_size))  # (B * F, G, N, H, D / H)
    return groups.flatten(1, 2).transpose(1, 2)  # (B * F, H, G * N, D / H)


class PaveLayer(nn.Module):
    """Attention and feed-forward block with residuals; arguments as in `FrameAttention`."""

    def __init__(self, hidden_dim: int, *, side_dim: int, num_heads: int, shared_value: bool = False) -> None:
        super().__init__()
        self.attention = FrameAttention(hidden_dim, side_dim=side_dim, num_heads=num_heads, shared_value=shared_value)
        self.norm = nn.LayerNorm(hidden_dim)
        self.up = nn.Linear(hidden_dim, 2 * hidden_dim, bias=False)
        self.down = nn.Linear(2 * hidden_dim, hidden_dim, bias=False)

    def forward(self, hidden_BFSD: Tensor, *, side: Tensor, plan: KeyPlan, angles: Angles | None = None) -> Tensor:
        """Return `(B, F, S, D)`; arguments as in `FrameAttention.forward`."""
        hidden_BFSD = hidden_BFSD + self.attention(hidden_BFSD, side=side, plan=plan, angles=angles)
        widened = map_again(hidden_BFSD, self.norm, self.up)
        return hidden_BFSD + map_again(widened, F.gelu, self.down)
