"""Fusion strategies by name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from crema_core.errors import OptionsError, did_you_mean
from crema_core.fusion.base import Fusion, FusionSizes, FusionWatch, SenseSet, VisualLayout
from crema_core.fusion.concat import ConcatFusion
from crema_core.fusion.cross_attention import CrossAttentionFusion
from crema_core.fusion.merv.strategy import MervFusion
from crema_core.fusion.mixture import MixtureFusion
from crema_core.fusion.pave.strategy import PaveFusion
from crema_core.fusion.self_gated import LinearFusion, SelfGatedFusion

FUSIONS: dict[str, type[Fusion]] = {
    "self_gated": SelfGatedFusion,
    "concat": ConcatFusion,
    "linear": LinearFusion,
    "cross_attention": CrossAttentionFusion,
    "mixture": MixtureFusion,
    "pave": PaveFusion,
    "merv": MervFusion,  # type: ignore[type-abstract]  # building it gives the strategy of the supporting senses
}

__all__ = [
    "FUSIONS",
    "Fusion",
    "FusionSizes",
    "FusionWatch",
    "SenseSet",
    "VisualLayout",
    "fusion_class",
    "make_fusion",
]


def fusion_class(name: str) -> type[Fusion]:
    """Return the class of a strategy.

    Raises:
        OptionsError: for an unknown name.
    """
    if name not in FUSIONS:
        raise OptionsError(
            f"{name!r} is not a fusion. Accepted: {', '.join(FUSIONS)}.{did_you_mean(name, FUSIONS)} "
            "Use fusion='self_gated', the paper's."
        )
    return FUSIONS[name]


def make_fusion(
    name: str, supports: Sequence[str], sizes: FusionSizes, *, options: Mapping[str, Any] | None = None
) -> Fusion:
    """Build a fusion by name.

    Args:
        name: one of `FUSIONS`.
        supports: supporting senses, in the order of `build`.
        sizes: what it is built for.
        options: further arguments of the strategy.

    Raises:
        OptionsError: for an unknown name or option.
    """
    try:
        return fusion_class(name).for_sizes(supports, sizes, **(options or {}))
    except TypeError as error:
        raise OptionsError(
            f"fusion {name!r} cannot take {dict(options or {})}: {error}. Leave the options out."
        ) from error
