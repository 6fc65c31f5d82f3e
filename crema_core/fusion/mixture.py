"""Mixture-of-experts fusion (the paper's Table 8 alternative): one expert per supporting sense, mixed by a router.

Each sense's expert is a linear map; its router scores the sense from the mean of its tokens, and a softmax over the
senses a sample really has gives the mixing weights. The paper names the variant without formulas; dense routing is
ours, since dropping senses would hide what they say.

Shape letters: B samples, T grid steps, Q queries, L width, N senses.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from crema_core.fusion.base import Fusion, SenseSet, spread
from crema_core.tokens import Segment


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


class MixtureFusion(Fusion):
    """Dense mixture of per-sense experts, appended after the major tokens."""

    def make_block(self, name: str, *, total: int, zero: bool) -> None:
        """Add the sense's expert."""
        self.blocks[name] = Expert(self.width, zero=zero)

    def forward(self, senses: SenseSet) -> list[Segment]:
        """Return major tokens, then the mixture; samples without supports get none."""
        known = [name for name in senses.supports if name in self.blocks]
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
