"""The paper's mixer with the weights the released code trains it through.

The released attention learns a query, a map of it and a map of the keys, although only their product counts. A product
of three learned factors takes other steps than one vector does, so whoever continues a released training, or compares
with one, needs the factors; everybody else has `CrossAttentionMixer`. Left out is what never gets a gradient there:
value and output maps, and the key bias, which the softmax cancels.

Shape letters: B samples, E encoders, T steps, M width of the attention, L width of the keys.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from crema_merv.mixers import CrossAttentionMixer, Mixed, Mixer, encoder_key, normalized, weighted


class ReleasedMixer(Mixer):
    """`CrossAttentionMixer` with u = Wk^T (Wq Q + bq) / sqrt(M).

    Args:
        num_encoders: E.
        width: width of a token.
        inner_width: M.
        positional: add a learned vector per encoder to what it is scored by.
        num_tokens: see `CrossAttentionMixer`.
    """

    def __init__(
        self,
        num_encoders: int,
        *,
        width: int,
        inner_width: int = 3072,
        positional: bool = False,
        num_tokens: int | None = None,
    ) -> None:
        super().__init__(num_encoders, width=width)
        self.inner_width, self.num_tokens = inner_width, num_tokens
        keys = width * (num_tokens or 1)
        self.query = nn.Parameter(torch.empty(1, inner_width))
        self.query_map = nn.Linear(inner_width, inner_width)
        self.key_map = nn.Linear(keys, inner_width, bias=False)
        self.positions = nn.Parameter(torch.zeros(num_encoders, keys)) if positional else None
        nn.init.xavier_uniform_(self.query)
        nn.init.zeros_(self.query_map.bias)
        # Where the widths agree torch keeps query, key and value map as one matrix, and starts them as one.
        gain = math.sqrt(0.5) if keys == inner_width else 1.0
        nn.init.xavier_uniform_(self.query_map.weight, gain=gain)
        nn.init.xavier_uniform_(self.key_map.weight, gain=gain)

    def vector(self) -> Tensor:
        """Return u `(L,)`; the key map is multiplied with one vector, not with every key."""
        query_M = self.query_map(self.query[0])
        product: Tensor = query_M @ self.key_map.weight / math.sqrt(self.inner_width)
        return product

    def forward(self, values: Sequence[Tensor], mask_BT: Tensor, present_BE: Tensor) -> Mixed:
        """See `Mixer.forward`."""
        keys_BEL = torch.stack([encoder_key(tokens, mask_BT, self.num_tokens) for tokens in values], dim=1)
        if self.positions is not None:
            keys_BEL = keys_BEL + self.positions
        return weighted(values, mask_BT, normalized(keys_BEL @ self.vector(), present_BE))

    @torch.no_grad()
    def collapse(self) -> CrossAttentionMixer:
        """Return the mixer of one vector that gives the same weights."""
        mixer = CrossAttentionMixer(
            self.num_encoders,
            width=self.width,
            inner_width=self.inner_width,
            positional=self.positions is not None,
            num_tokens=self.num_tokens,
        ).to(self.query)
        vector_L = self.vector()
        mixer.query.copy_(vector_L)
        if self.positions is not None and mixer.prior is not None:
            mixer.prior.copy_(self.positions @ vector_L)
        return mixer
