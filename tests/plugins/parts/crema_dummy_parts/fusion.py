"""Every modality's own tokens, side by side."""

from __future__ import annotations

from crema_core.fusion.strategies import ConcatFusion


class StackedFusion(ConcatFusion):
    """Concatenation under another name."""
