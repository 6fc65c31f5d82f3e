"""Several encoders of one sense in front of the language model: MERV's projectors and mixer as a connector.

A modality has several encoders when it has a `layout`, a tuple of `EncoderLayout`; its features then are theirs, laid
one after another in a flat tensor (`crema_core.video.towers.layout`).

Shape letters: R samples that have the sense, E encoders, T common steps, K tokens of a step, L language-model width, P
numbers of all encoders.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from crema_core.fusion.merv import Merv
from crema_core.fusion.merv.mixers import ConcatMixer
from crema_core.modality import Modality
from crema_core.model.connector import Connector
from crema_core.model.qformer import QFormerText
from crema_core.tokens import SenseFeatures, SenseTokens
from crema_core.video.towers.layout import EncoderLayout, unpack

if TYPE_CHECKING:
    from crema_core.model.network import CremaNetwork


class EncodersConnector(Connector):
    """Projects the features of several encoders, aligns them in time and mixes them.

    Args:
        layout: sizes of the encoders' features.
        width: L.
        **options: see `Merv`.

    Raises:
        OptionsError: for options that do not fit the encoders.
    """

    kind = "encoders"

    def __init__(self, layout: tuple[EncoderLayout, ...], *, width: int, **options: Any) -> None:
        super().__init__()
        self.layout, self.width = layout, width
        self.merv = Merv(layout, width=width, **options)
        self.num_tokens = self.merv.num_tokens

    def forward(self, features: SenseFeatures, text: QFormerText | None = None) -> SenseTokens:
        """Mix `(R, 1, 1, P)` -> `(R, T, K, L)`, with the weight of every encoder.

        The steps are equal parts of the clip, and each gets the time it stands for, so that other senses find theirs.
        Concatenated encoders follow one another, each with the steps of the whole clip.
        """
        values, _, times = features.features
        mixed = self.merv(unpack(values, self.layout))
        clock = None
        if times is not None:
            rounds = len(self.layout) if isinstance(self.merv.mixer, ConcatMixer) else 1
            clock = step_times(times[:, 0], mixed.mask.shape[1] // rounds).repeat(1, rounds, 1)
        return SenseTokens(mixed.values, mixed.mask, features.rows, clock, encoder_weights=mixed.weights)

    def trained(self) -> dict[str, nn.Parameter]:
        """Return projectors and mixer as `encoders.*`."""
        return {f"encoders.{key}": parameter for key, parameter in self.merv.named_parameters()}


def encoder_layout(modality: Modality) -> tuple[EncoderLayout, ...]:
    """Return the sizes of a sense's encoders where it has several, else nothing."""
    found: tuple[EncoderLayout, ...] = getattr(modality, "layout", ())
    return found


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


def encoder_shares(
    model: CremaNetwork, tokens: Mapping[str, SenseTokens], num_samples: int
) -> list[dict[str, float] | None]:
    """Return for every sample how much each encoder of the major sense says, None where nothing was weighed.

    Args:
        model: whose tokens these are.
        tokens: of the senses of a batch.
        num_samples: of the batch.
    """
    shares: list[dict[str, float] | None] = [None] * num_samples
    major = tokens.get(model.major)
    if major is None or major.encoder_weights is None:
        return shares
    names = [encoder.name for encoder in encoder_layout(model.sense(model.major).modality)]
    for row, weights in zip(major.rows.tolist(), major.encoder_weights.tolist(), strict=True):
        shares[row] = dict(zip(names, weights, strict=True))
    return shares
