"""Self-gated fusion, the paper's choice (CREMA equation 3): f = FC([h_1; ...; h_n]), g = f * sigmoid(f).

The gate is the fused vector itself, there is no gate parameter. The fused tokens follow the major sense's tokens, so
the language model sees twice the major length however many senses there are. `append=False` adds them to the major
tokens instead, a variant of the released code that the paper does not describe.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from crema_core.errors import OptionsError
from crema_core.fusion.align import Grid
from crema_core.fusion.base import Fusion, FusionSizes, Layout, SenseSet, spread
from crema_core.tokens import Segment


class LinearFusion(Fusion):
    """One linear map over the channel-concatenated senses, kept as a sum of per-sense blocks (Table 8, "linear").

    Args:
        supports: names of the supporting senses.
        width: L.
        num_queries: Q.
        append: put fused tokens after the major ones; False adds them.
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

    def gate(self, fused: Tensor) -> Tensor:
        """Return the tokens the language model sees, of the same shape; plain linear fusion has no gate."""
        return fused

    def opening(self, fused: Tensor) -> Tensor | None:
        """Return how far the gate opens, of the same shape, or None without a gate; for reports only."""
        return None

    def forward(self, senses: SenseSet) -> list[Segment]:
        """Fuse the supporting senses on the grid; samples without any get no fused tokens."""
        known = [name for name in senses.supports if name in self.blocks]
        if not known:
            return self.side_by_side(senses, senses.tokens)
        grid = senses.grid()
        fused, present = self._sum(senses, known, grid)
        gated = self.gate(fused)
        if senses.watch is not None:
            opening = self.opening(fused.detach().float())
            senses.watch.gate = None if opening is None else opening.mean(-1)
        mask = grid.mask & present[:, None]
        if self.append:
            return self.arrange(senses, gated, mask, known)
        values = gated * mask[:, :, None, None]
        if senses.major in senses.tokens:
            major = senses.segment(senses.major)
            more = mask.shape[1] - major.mask.shape[1]  # a sample without the major modality may have more steps
            values = values + nn.functional.pad(major.values, (0, 0, 0, 0, 0, more))
            mask = mask | nn.functional.pad(major.mask, (0, more))
        added = Segment(values, mask, senses.prefixes[senses.major])
        return [added] + [senses.segment(name) for name in senses.supports if name not in self.blocks]

    def _sum(self, senses: SenseSet, known: Sequence[str], grid: Grid) -> tuple[Tensor, Tensor]:
        batch, steps = grid.mask.shape
        fused = self.bias.expand(batch, steps, self.num_queries, self.width)
        present = torch.zeros(batch, dtype=torch.bool, device=grid.mask.device)
        for name in known:
            rows = senses.tokens[name].rows
            aligned = senses.aligned(name, grid, by_time=self.layout == "paper")
            added = self.blocks[name](aligned)
            if senses.watch is not None:
                senses.watch.parts[name] = added.detach().float().norm(dim=-1).mean(-1)
            fused = fused + spread(added, rows, batch)
            present[rows] = True
        return fused, present


class SelfGatedFusion(LinearFusion):
    """Equation 3: the linear fusion gated by its own sigmoid."""

    def gate(self, fused: Tensor) -> Tensor:
        """Return `f * sigmoid(f)`."""
        return fused * torch.sigmoid(fused)

    def opening(self, fused: Tensor) -> Tensor | None:
        """Return `sigmoid(f)`."""
        return torch.sigmoid(fused)
