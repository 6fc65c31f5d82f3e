"""Several encoders of one modality in front of the language model: MERV's projectors and mixer as a connector.

The features of a modality with `feature_parts` are those of its encoders, laid one after another in a flat tensor.

Shape letters: R samples that have the modality, E encoders, T common steps, K tokens of a step, L language-model width,
P numbers of all encoders.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from crema_core.errors import BuildError
from crema_core.fusion.connector import Connector, ConnectorRequest, QFormerText
from crema_core.modality import FeaturePart
from crema_core.tokens import ModalityFeatures, ModalityTokens
from crema_merv.layout import unpack
from crema_merv.merv import Merv
from crema_merv.mixers import ConcatMixer

WEIGHTS = "encoder_weights"
"""Name of the tokens' extra and of the output: `(R, E)`, the share of each encoder."""


class EncodersConnector(Connector):
    """Projects the features of several encoders, aligns them in time and mixes them.

    Args:
        layout: sizes of the encoders' features.
        width: L.
        **options: see `Merv`.

    Raises:
        OptionsError: for options that do not fit the encoders.
    """

    def __init__(self, layout: tuple[FeaturePart, ...], *, width: int, **options: Any) -> None:
        super().__init__()
        self.layout, self.width = layout, width
        self.merv = Merv(layout, width=width, **options)
        self.num_tokens = self.merv.num_tokens

    @classmethod
    def of(cls, request: ConnectorRequest, **options: Any) -> EncodersConnector:
        """Return the connector of a modality with several encoders; options are those of `Merv`.

        Raises:
            BuildError: when the modality has one encoder alone.
        """
        parts, name = request.modality.feature_parts, request.modality.spec.name
        if not parts:
            raise BuildError(
                [
                    f"fusion 'merv' mixes several encoders of the major modality, and '{name}' has none to mix. "
                    "Accepted: a major modality that sees through several. Write build(..., encoders=['dinov2', "
                    "'siglip'])."
                ]
            )
        return cls(parts, width=request.backbone.language_dim, **options)

    def forward(self, features: ModalityFeatures, text: QFormerText | None = None) -> ModalityTokens:
        """Mix `(R, 1, 1, P)` -> `(R, T, K, L)`, with the weight of every encoder.

        The steps are equal parts of the clip, and each gets the time it covers, so that other modalities find theirs.
        Concatenated encoders follow one another, each with the steps of the whole clip.
        """
        values, _, times, _ = features.features
        mixed = self.merv(unpack(values, self.layout))
        clock = None
        if times is not None:
            rounds = len(self.layout) if isinstance(self.merv.mixer, ConcatMixer) else 1
            clock = step_times(times[:, 0], mixed.mask.shape[1] // rounds).repeat(1, rounds, 1)
        extras = {} if mixed.weights is None else {WEIGHTS: mixed.weights}
        return ModalityTokens(mixed.values, mixed.mask, features.rows, clock, extras=extras)

    def trained(self) -> dict[str, nn.Parameter]:
        """Return projectors and mixer as `encoders.*`."""
        return {f"encoders.{key}": parameter for key, parameter in self.merv.named_parameters()}

    def parts(self, options: Mapping[str, Any]) -> Sequence[str]:
        """Return the encoders, from the options of the modality."""
        return [f"{one['name']} layer {one['layer']}" for one in options.get("encoders") or ()] or ["one"]

    def outputs(self, tokens: ModalityTokens) -> dict[str, list[dict[str, float]]]:
        """Return how much each encoder contributes in every sample; nothing where they are not weighed."""
        if WEIGHTS not in tokens.extras:
            return {}
        names = [part.name for part in self.layout]
        return {WEIGHTS: [dict(zip(names, own, strict=True)) for own in tokens.extras[WEIGHTS].tolist()]}


def step_times(spans_R2: Tensor, num_steps: int) -> Tensor:
    """Cut clips into equal parts.

    Args:
        spans_R2: `(R, 2)` seconds, where each clip starts and ends.
        num_steps: T.

    Returns:
        `(R, T, 2)`.

    Example:
        >>> step_times(torch.tensor([[1.0, 3.0]]), 2)
        tensor([[[1., 2.],
                 [2., 3.]]])
    """
    edges = torch.linspace(0, 1, num_steps + 1, device=spans_R2.device, dtype=spans_R2.dtype)
    start_R1, end_R1 = spans_R2[:, :1], spans_R2[:, 1:]
    edges_RT = start_R1 + (end_R1 - start_R1) * edges
    return torch.stack([edges_RT[:, :-1], edges_RT[:, 1:]], dim=2)
