"""MERV as a strategy: the major modality's encoders are mixed in its connector, another strategy fuses the other
modalities.

MERV itself has one modality only, and ends where the language model begins. So it composes with every strategy that
takes
the language model's tokens: what it gives of a clip is the major modality, one step per common step of the encoders.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import Any

from crema_core.errors import OptionsError
from crema_core.fusion import plan_fusion
from crema_core.fusion.base import Fusion, FusionPlan, ModalitySet
from crema_core.plugins.spec import ModalitySpec, parse_settings
from crema_core.tokens import Segment
from crema_merv.connector import EncodersConnector
from crema_merv.options import DEFAULT, MervOptions
from crema_merv.video_options import with_encoders


class MervFusion(Fusion):
    """Stands for the strategy; what fuses is the strategy of the supporting modalities."""

    @classmethod
    def extended(cls, spec: ModalitySpec) -> ModalitySpec:
        """Give the modality of video the option `encoders`."""
        return with_encoders(spec)

    @classmethod
    def plan(cls, options: Mapping[str, Any]) -> FusionPlan:
        """Plan the fusion of the supporting modalities, with the mixer of encoders before the major one.

        Raises:
            OptionsError: for an unknown or bad option, and for a strategy that takes other tokens of the major modality
                than those a language model reads.
        """
        parsed = parse_settings(MervOptions, dict(options), title="fusion 'merv'")
        inner = plan_fusion(parsed.supporting)
        if inner.major_connector is not None or inner.reads_features:
            name = parsed.supporting if isinstance(parsed.supporting, str) else parsed.supporting.get("name")
            raise OptionsError(
                f"supporting={name!r} cannot fuse what is beside the encoders of 'merv': it takes tokens of the "
                "major modality that are its own. Accepted: a fusion that takes those of a Q-Former. Leave supporting "
                f"out for '{DEFAULT}'."
            )
        major = partial(EncodersConnector.of, **parsed.of_encoders())
        return replace(inner, major_connector=major, major_prefix="", mixes_parts=True)

    def forward(self, modalities: ModalitySet) -> list[Segment]:
        """Never called: `plan` names the fusion that is built."""
        raise AssertionError("the strategy of the supporting modalities is built in its place")
