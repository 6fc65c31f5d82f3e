"""Fusion strategies by name."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from crema_core.errors import OptionsError, did_you_mean
from crema_core.fusion.base import Fusion, SenseSet
from crema_core.fusion.concat import ConcatFusion
from crema_core.fusion.cross_attention import CrossAttentionFusion
from crema_core.fusion.mixture import MixtureFusion
from crema_core.fusion.self_gated import LinearFusion, SelfGatedFusion

FUSIONS: dict[str, type[Fusion]] = {
    "self_gated": SelfGatedFusion,
    "concat": ConcatFusion,
    "linear": LinearFusion,
    "cross_attention": CrossAttentionFusion,
    "mixture": MixtureFusion,
}

__all__ = ["FUSIONS", "Fusion", "SenseSet", "make_fusion"]


def make_fusion(
    name: str, supports: Sequence[str], *, width: int, num_queries: int, options: dict[str, Any] | None = None
) -> Fusion:
    """Build a fusion by name.

    Args:
        name: one of `FUSIONS`.
        supports: supporting senses, in the order of `build`.
        width: language-model width L.
        num_queries: queries Q of every fused sense.
        options: further arguments of the strategy.

    Raises:
        OptionsError: for an unknown name or option.
    """
    if name not in FUSIONS:
        raise OptionsError(
            f"{name!r} is not a fusion. Accepted: {', '.join(FUSIONS)}.{did_you_mean(name, FUSIONS)} "
            "Use fusion='self_gated', the paper's."
        )
    try:
        return FUSIONS[name](supports, width=width, num_queries=num_queries, **(options or {}))
    except TypeError as error:
        raise OptionsError(f"fusion {name!r} cannot take {options}: {error}. Leave the options out.") from error
