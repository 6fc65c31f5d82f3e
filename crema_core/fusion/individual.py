"""The papers' baseline: a Q-Former of its own for every modality, all of it trained, and nothing fused.

CREMA's tables compare with it as "individual Q-Formers": what MMQA shares between modalities, this has once for each,
106.7 million parameters at the size of BLIP-2. The language model reads every modality's tokens side by side.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar

from crema_core.errors import OptionsError
from crema_core.fusion.base import FusionPlan, Layout
from crema_core.fusion.strategies import ConcatFusion

LR_SCALE = 0.15
"""The paper trains its baselines with about a seventh of CREMA's learning rate."""


class IndividualQFormers(ConcatFusion):
    """Concatenation of tokens that each modality has from a copy of the backbone's Q-Former.

    Each copy is trained whole, with the same projection, LayerNorm, queries and output projection as an MMQA, and
    without LoRA. A modality that comes with tokens of its own, as the pictures of a vision-language model, keeps them.

    Args:
        supporting: names of the supporting modalities.
        width: L.
        num_queries: Q.
        layout: see `Fusion`.
        lr_scale: what the learning rate of a training is multiplied with, above 0.
    """

    individual_qformers: ClassVar[bool] = True
    test_options = ({}, {"lr_scale": 1.0})

    def __init__(
        self,
        supporting: Sequence[str],
        *,
        width: int,
        num_queries: int,
        layout: Layout = "paper",
        lr_scale: float = LR_SCALE,
    ) -> None:
        super().__init__(supporting, width=width, num_queries=num_queries, layout=layout)
        self.lr_scale = lr_scale

    @classmethod
    def plan(cls, options: Mapping[str, Any]) -> FusionPlan:
        """Return the plan, with the learning rate of the copies.

        Raises:
            OptionsError: for an unknown option, or a scale that is none.
        """
        scale = options.get("lr_scale", LR_SCALE)
        if isinstance(scale, bool) or not isinstance(scale, int | float) or not 0 < scale < float("inf"):
            raise OptionsError(
                f"fusion: lr_scale={scale!r} cannot scale a learning rate. Accepted: a number above 0. Use "
                f"lr_scale={LR_SCALE}, the default."
            )
        return replace(super().plan(options), lr_scale=float(scale))
