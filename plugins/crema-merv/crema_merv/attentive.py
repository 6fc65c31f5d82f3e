"""The projector whose tokens are learned queries that attend to the patches of a step (MERV, "attentive").

Shape letters: M steps of all samples, N patches, K queries, D feature width, B samples, T steps.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from crema_core.errors import OptionsError
from crema_merv.steps import on_real_steps

SPREAD = 0.02
"""Standard deviation of queries and weights at the start, truncated at two of them (ours for the linear layers)."""


class AttentiveResampler(nn.Module):
    """One cross-attention layer and one MLP, each with a residual, as the released code has them.

    Queries are not normalised before the attention, patches are. The attention's output and the MLP's second layer
    start divided by sqrt(2).

    Args:
        feature_dim: D.
        num_tokens: K.
        num_heads: attention heads.

    Raises:
        OptionsError: when the heads do not divide the width.
    """

    def __init__(self, feature_dim: int, *, num_tokens: int, num_heads: int = 8) -> None:
        super().__init__()
        if feature_dim % num_heads:
            raise OptionsError(
                f"{num_heads} heads were asked of an attentive projector for features {feature_dim} wide. The heads "
                f"divide the width. Use projector={{'kind': 'attentive', 'num_heads': {math.gcd(feature_dim, 8)}}}, "
                "or another kind."
            )
        self.num_heads, self.output_dim = num_heads, feature_dim
        self.queries = nn.Parameter(torch.empty(1, num_tokens, feature_dim))
        self.norm, self.mlp_norm = nn.LayerNorm(feature_dim), nn.LayerNorm(feature_dim)
        self.query = nn.Linear(feature_dim, feature_dim)
        self.key_value = nn.Linear(feature_dim, 2 * feature_dim)
        self.output = nn.Linear(feature_dim, feature_dim)
        hidden = 4 * feature_dim
        self.mlp = nn.Sequential(nn.Linear(feature_dim, hidden), nn.GELU(), nn.Linear(hidden, feature_dim))
        self._start()

    @torch.no_grad()
    def _start(self) -> None:
        nn.init.trunc_normal_(self.queries, std=SPREAD)
        first, second = self.mlp[0], self.mlp[2]
        assert isinstance(first, nn.Linear)
        assert isinstance(second, nn.Linear)
        for layer in (self.query, self.key_value, self.output, first, second):
            nn.init.trunc_normal_(layer.weight, std=SPREAD)
            nn.init.zeros_(layer.bias)
        self.output.weight.div_(math.sqrt(2))
        second.weight.div_(math.sqrt(2))

    def forward(self, values_BTND: Tensor, mask_BT: Tensor) -> tuple[Tensor, Tensor]:
        """Return tokens `(B, T, K, D)` and the mask of steps."""
        return on_real_steps(values_BTND, mask_BT, self._attend), mask_BT

    def _attend(self, patches_MND: Tensor) -> Tensor:
        heads = (self.num_heads, -1)
        key_value = self.key_value(self.norm(patches_MND)).unflatten(-1, (2, *heads))
        keys_MHND, values_MHND = key_value.permute(2, 0, 3, 1, 4).unbind(0)
        query_HKD = self.query(self.queries).unflatten(-1, heads).transpose(1, 2)
        query_MHKD = query_HKD.expand(len(patches_MND), -1, -1, -1)
        attended = F.scaled_dot_product_attention(query_MHKD, keys_MHND, values_MHND)
        tokens_MKD = self.queries + self.output(attended.transpose(1, 2).flatten(2))
        result: Tensor = tokens_MKD + self.mlp(self.mlp_norm(tokens_MKD))
        return result
