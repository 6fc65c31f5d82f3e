"""What is between features and the patch: nothing, on either side.

Shape letters: R samples that have the modality, T steps, N tokens of a step, D feature width, E vision width, S visual
tokens of a step, L language-model width.
"""

from __future__ import annotations

import warnings

import torch

from crema_core.errors import BuildError
from crema_core.fusion.base import ModalitySet
from crema_core.fusion.connector import Connector, ConnectorRequest, QFormerText
from crema_core.tokens import OWN_LAYOUT, ModalityFeatures, ModalityTokens

BEFORE_PROJECTOR = "before_projector"
"""Key in `ModalityTokens.extras` of the backbone's visual tokens before its projector."""


class FeatureConnector(Connector):
    """Hand the features themselves to the fusion.

    Args:
        width: D.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.width = width

    @classmethod
    def of(cls, request: ConnectorRequest) -> FeatureConnector:
        """Return the connector of a modality; every modality has features."""
        return cls(request.modality.feature_dim)

    def forward(self, features: ModalityFeatures, text: QFormerText | None = None) -> ModalityTokens:
        """Return the features as tokens `(R, T, N, D)`."""
        values, mask, times, _ = features.features
        steps = mask if mask.dim() == 2 else mask.any(-1)
        return ModalityTokens(values, steps, features.rows, times, token_mask=mask if mask.dim() == 3 else None)


def visual_connector(request: ConnectorRequest) -> Connector:
    """Return the connector of the modality whose tokens are updated.

    Raises:
        BuildError: when the backbone has no visual tokens, or the modality brings features of another encoder.
    """
    modality, backbone = request.modality, request.backbone
    name, layout = modality.spec.name, backbone.visual_layout
    if layout is None:
        raise BuildError(
            [
                f"The tokens of '{name}' are to be a vision-language model's own, and the backbone "
                f"'{backbone.source}' has none. Accepted: vision-language models of transformers, see "
                "docs/backbones.md. Use backbone='llava-hf/llava-onevision-qwen2-0.5b-ov-hf'."
            ]
        )
    if not modality.own_tokens:
        raise BuildError(
            [
                f"The tokens of '{name}' are to be the vision-language model's own, and this modality brings features "
                f"of another encoder ({modality.feature_dim} wide). Accepted: a major modality that sees through the "
                "backbone. Leave its encoder option out, or make another modality major."
            ]
        )
    reader, side = modality.context.reader, modality.context.image_size
    assert reader is not None
    frames = getattr(modality.options, "num_frames", 1)
    steps = reader.prepare(torch.zeros(frames, 3, side, side, dtype=torch.uint8)).tensors[OWN_LAYOUT]
    return OwnTokensConnector(modality.feature_dim, width=layout.width, num_tokens=int(steps[0].prod()))


class OwnTokensConnector(Connector):
    """A vision-language model's own visual tokens, as its language model is given them.

    Args:
        feature_width: of the features: the tokens, and behind them what they are before the projector where asked for.
        width: of the tokens.
        num_tokens: of a step of a square clip.
    """

    def __init__(self, feature_width: int, *, width: int, num_tokens: int) -> None:
        super().__init__()
        self.width, self.num_tokens, self._reads_inner = width, num_tokens, feature_width > width

    def forward(self, features: ModalityFeatures, text: QFormerText | None = None) -> ModalityTokens:
        """Return `(R, T, S, W)`, with the tokens before the projector `(R, T, S, E)` among the extras."""
        values, mask, times, extras = features.features
        if self._reads_inner:
            extras = {**extras, BEFORE_PROJECTOR: values[..., self.width :].float()}
        token_mask = mask if mask.dim() == 3 else None
        own = values[..., : self.width].float()
        return ModalityTokens(own, features.steps, features.rows, times, token_mask, extras)


def warn_of_lost(modalities: ModalitySet, what: str) -> bool:
    """Warn where a sample has a supporting modality without the major one; return whether that was so.

    Args:
        modalities: of the batch.
        what: what the strategy does with the major modality's tokens, for example "PAVE updates the tokens of".
    """
    lost = lost_modalities(modalities)
    if lost:
        warnings.warn(
            f"A sample has {', '.join(lost)} and no {modalities.major}. {what} '{modalities.major}', so such samples "
            f"are answered from the question alone. Give them '{modalities.major}' too. Said once.",
            stacklevel=3,
        )
    return bool(lost)


def lost_modalities(modalities: ModalitySet) -> list[str]:
    """Return the supporting modalities that a sample of the batch has without the major one, whose tokens they need."""
    major = modalities.tokens.get(modalities.major)
    seen = set() if major is None else set(major.rows.tolist())
    if len(seen) == modalities.num_samples:
        return []
    return [name for name, side in modalities.supporting.items() if not seen.issuperset(side.rows.tolist())]
