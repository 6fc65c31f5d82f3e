"""A vision-language model's own visual tokens, as they are: nothing between its vision encoder and the fusion."""

from __future__ import annotations

from crema_core.fusion.connector import Connector, ConnectorRequest, QFormerText
from crema_core.tokens import ModalityFeatures, ModalityTokens


class OwnTokens(Connector):
    """Hand the tokens on, with what their prompt needs among the extras; nothing is trained.

    Args:
        width: of a token, with what the model's first layers add.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.width = width

    @classmethod
    def of(cls, request: ConnectorRequest) -> OwnTokens:
        """Return the connector of a modality whose frames the model sees as it was trained to."""
        return cls(request.modality.feature_dim)

    def forward(self, features: ModalityFeatures, text: QFormerText | None = None) -> ModalityTokens:
        """Return the features as tokens `(R, V, N, (1 + K) * L)`."""
        values, mask, times, extras = features.features
        token_mask = mask if mask.dim() == 3 else None
        return ModalityTokens(values, features.steps, features.rows, times, token_mask, extras)
