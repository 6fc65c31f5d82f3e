"""What is between features and the patch: the backbone's own projector, and nothing at all.

Shape letters: R samples that have the modality, T steps, N tokens of a step, D feature width, E vision width, S visual
tokens of a step, L language-model width.
"""

from __future__ import annotations

from torch import nn

from crema_core.errors import BuildError
from crema_core.fusion.connector import Connector, ConnectorRequest, QFormerText, VisualSource
from crema_core.tokens import ModalityFeatures, ModalityTokens

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


class VisualConnector(Connector):
    """A video language model's own projector; nothing in it is trained.

    Args:
        source: whose tokens these are; not a part of this module.
        width: L.
    """

    def __init__(self, source: VisualSource, *, width: int) -> None:
        super().__init__()
        layout = source.layout
        self.width, self.num_tokens = width, layout.rows * layout.columns
        self._shared = (source,)  # in a tuple: torch would make an attribute a child

    @classmethod
    def of(cls, request: ConnectorRequest) -> VisualConnector:
        """Return the connector of a modality that sees through the backbone.

        Raises:
            BuildError: when the backbone has no visual tokens, or the modality brings features of another encoder.
        """
        modality, backbone = request.modality, request.backbone
        name = modality.spec.name
        if backbone.visual is None:
            raise BuildError(
                [
                    f"The tokens of '{name}' are to be a video language model's own before and behind its projector, "
                    f"and PAVE does not read those of the backbone '{backbone.source}'. Accepted: LLaVA-OneVision, "
                    "Video-LLaVA, Qwen2-VL and Qwen2.5-VL, loaded by their names or by load_backbone(..., "
                    "family='pave-'). Use backbone='llava-hf/llava-onevision-qwen2-0.5b-ov-hf'."
                ]
            )
        if modality.spec.encoder != "vision" or modality.feature_dim != backbone.vision_dim:
            raise BuildError(
                [
                    f"The tokens of '{name}' are to be the video language model's own, and this modality brings "
                    f"features of another encoder ({modality.feature_dim} wide, the backbone's are "
                    f"{backbone.vision_dim}). Accepted: a major modality that sees through the backbone. Leave its "
                    "encoder option out, or make another modality major."
                ]
            )
        return cls(backbone.visual, width=backbone.language_dim)

    def forward(self, features: ModalityFeatures, text: QFormerText | None = None) -> ModalityTokens:
        """Return `(R, T, S, L)`, with the tokens before the projector `(R, T, S, E)` among the extras."""
        values, mask, times, _ = features.features
        steps = mask if mask.dim() == 2 else mask.any(-1)
        tokens, inner = self._shared[0].visual_tokens(values.flatten(0, 1))
        shape = values.shape[:2]
        extras = {BEFORE_PROJECTOR: inner.unflatten(0, shape).float()}
        return ModalityTokens(tokens.unflatten(0, shape).float(), steps, features.rows, times, extras=extras)

    def counted(self) -> list[nn.Module]:
        """Return the projector."""
        return [self._shared[0].projector]

    def frozen(self) -> list[nn.Parameter]:
        """Return the projector's weights."""
        return list(self._shared[0].projector.parameters())
