"""What every fusion strategy is: senses in, prompt segments out.

A fusion owns the layout of the prompt before the question: it may leave senses side by side (concat), merge supporting
senses into as many tokens as the major one has (CREMA equation 3), or rewrite the major tokens. Core never looks
inside. Parameters are kept per supporting sense ("blocks"), because a linear map over channel-concatenated senses
equals a sum of per-sense maps: adding a sense then adds a block and changes no shape.

Shape letters: B samples, T steps of the grid, Q queries, L language-model width.
"""

from __future__ import annotations

import abc
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor, nn

from crema_core.fusion.align import Grid, frame_grid
from crema_core.model.tokens import Segment, SenseTokens


@dataclass(frozen=True)
class SenseSet:
    """The senses of one batch as a fusion sees them.

    Attributes:
        tokens: by name, in the order of `build`; senses absent from the whole batch are absent here.
        major: name of the major sense (it may be absent from `tokens`).
        num_samples: B.
        prefixes: prefix text of every built sense.
        per_frame: names of the senses that have one step per frame of the major sense.
    """

    tokens: Mapping[str, SenseTokens]
    major: str
    num_samples: int
    prefixes: Mapping[str, str]
    per_frame: frozenset[str]

    @property
    def supports(self) -> dict[str, SenseTokens]:
        """The senses other than the major one."""
        return {name: tokens for name, tokens in self.tokens.items() if name != self.major}

    def grid(self) -> Grid:
        """Return the steps to which supporting senses are aligned, see `frame_grid`."""
        return frame_grid(self.tokens, self.major, self.per_frame, self.num_samples)

    def segment(self, name: str) -> Segment:
        """Return one sense's tokens as a segment of their own, with that sense's prefix."""
        tokens = self.tokens[name]
        return Segment(
            spread(tokens.values, tokens.rows, self.num_samples),
            spread(tokens.mask, tokens.rows, self.num_samples),
            self.prefixes[name],
        )


def spread(values: Tensor, rows: Tensor, num_samples: int) -> Tensor:
    """Place `(R, ...)` values at their samples' rows of `(B, ...)` zeros."""
    if values.shape[0] == num_samples:  # every sample has the sense: rows are 0..B-1 by construction
        return values
    return values.new_zeros(num_samples, *values.shape[1:]).index_copy(0, rows, values)


def major_first(senses: SenseSet) -> list[str]:
    """Return the names present, the major sense first."""
    return sorted(senses.tokens, key=lambda name: name != senses.major)


class Fusion(nn.Module, abc.ABC):
    """Base of the strategies.

    Args:
        supports: names of the supporting senses the fusion has weights for.
        width: L.
        num_queries: Q.
    """

    def __init__(self, supports: Sequence[str], *, width: int, num_queries: int) -> None:
        super().__init__()
        self.width, self.num_queries = width, num_queries
        self.supports: list[str] = []
        self.blocks = nn.ModuleDict()
        for name in supports:
            self.add_support(name, total=len(supports))

    @abc.abstractmethod
    def forward(self, senses: SenseSet) -> list[Segment]:
        """Lay out the senses of a batch; every value may depend on its own sample only."""

    def add_support(self, name: str, *, total: int, zero: bool = False) -> None:
        """Add the weights of one supporting sense.

        Args:
            name: the sense.
            total: number of supporting senses the initialisation assumes.
            zero: start without influence, so that outputs do not change until the block is trained.
        """
        self.supports.append(name)
        self.make_block(name, total=total, zero=zero)

    def make_block(self, name: str, *, total: int, zero: bool) -> None:
        """Create the parameters of one supporting sense; nothing for strategies without any."""

    def block_parameters(self, names: Iterable[str]) -> dict[str, nn.Parameter]:
        """Return the parameters that belong to the given senses alone."""
        wanted = {f"blocks.{name}." for name in names}
        return {
            key: parameter
            for key, parameter in self.named_parameters()
            if any(key.startswith(start) for start in wanted)
        }

    def shared_parameters(self) -> dict[str, nn.Parameter]:
        """Return the parameters shared by all senses."""
        return {key: parameter for key, parameter in self.named_parameters() if not key.startswith("blocks.")}

    def layout(self, senses: SenseSet, fused: Tensor, mask: Tensor, known: Iterable[str]) -> list[Segment]:
        """Major tokens, then fused tokens, then senses the fusion has no weights for (zero-shot concatenation, A.5).

        Args:
            senses: the batch.
            fused: `(B, T, Q, L)`.
            mask: `(B, T)` bool.
            known: names of the senses inside `fused`.
        """
        segments = [senses.segment(senses.major)] if senses.major in senses.tokens else []
        segments.append(Segment(fused, mask, senses.prefixes[senses.major]))
        known = set(known)
        return segments + [senses.segment(name) for name in senses.supports if name not in known]
