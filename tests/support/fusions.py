"""Strategies built by name, as `crema_core.build` does."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from crema_core.fusion import build_fusion, fusion_class
from crema_core.fusion.base import Fusion, FusionSizes


def make_fusion(
    name: str, supporting: Sequence[str], sizes: FusionSizes, *, options: Mapping[str, Any] | None = None
) -> Fusion:
    """Plan and build a fusion with weights for `supporting`."""
    return build_fusion(name, fusion_class(name).plan(options or {}), supporting, sizes)
