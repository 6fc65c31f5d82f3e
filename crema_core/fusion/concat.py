"""Concatenation: every sense keeps its own tokens (the paper's baseline without fusion, and its zero-shot mode A.5)."""

from __future__ import annotations

from typing import ClassVar

from crema_core.fusion.base import Fusion, SenseSet
from crema_core.tokens import Segment


class ConcatFusion(Fusion):
    """Major sense first, then the others in the order of `build`, each after its own prefix; no parameters."""

    one_query_count: ClassVar[bool] = False

    def forward(self, senses: SenseSet) -> list[Segment]:
        """Return the senses side by side."""
        return self.side_by_side(senses, senses.tokens)
