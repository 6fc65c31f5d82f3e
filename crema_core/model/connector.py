"""From one sense's features to the tokens a fusion gets: what stands between encoder and language model.

A strategy names the connector it needs: CREMA's senses pass the shared Q-Former (`crema_core.model.mmqa`), a video
language model brings its own projector, PAVE's side channels reach the fusion as features, MERV's encoders are aligned
and mixed. Everything trainable of a sense, except its block in the fusion, is its connector's.

Shape letters: R samples that have the sense, T steps, N tokens of a step, D feature width, Q tokens a connector gives,
W their width.
"""

from __future__ import annotations

import abc
from collections.abc import Iterable
from typing import ClassVar

from torch import nn

from crema_core.model.qformer import QFormerText
from crema_core.tokens import SenseFeatures, SenseTokens


class Connector(nn.Module, abc.ABC):
    """Base of the connectors.

    Attributes:
        kind: name under which a strategy asks for it.
        width: W.
        num_tokens: Q, or None where it is as the features have it.
        reads_text: whether the tokens depend on the question.
    """

    kind: ClassVar[str]
    width: int
    num_tokens: int | None = None
    reads_text: bool = False

    @abc.abstractmethod
    def forward(self, features: SenseFeatures, text: QFormerText | None = None) -> SenseTokens:
        """Return the tokens of the samples that have the sense; differentiable in what is trained.

        Args:
            features: `(R, T, N, D)` with their mask.
            text: the questions of all samples, where `reads_text`.
        """

    def trained(self) -> dict[str, nn.Parameter]:
        """Return everything trainable, keyed as in an adapter file; nothing for a frozen connector."""
        return {}

    def lora(self) -> dict[str, nn.Parameter]:
        """Return the LoRA matrices among them, which early exit measures by default."""
        return {}

    def counted(self) -> Iterable[nn.Module]:
        """Return the modules whose arithmetic belongs to the sense."""
        return self.children()

    def frozen(self) -> list[nn.Parameter]:
        """Return weights outside of it that it passes features through and that never change; none by default."""
        return []


class FeatureConnector(Connector):
    """Hand the features themselves to the fusion: the side channels of PAVE.

    Args:
        width: D.
    """

    kind = "features"

    def __init__(self, width: int) -> None:
        super().__init__()
        self.width = width

    def forward(self, features: SenseFeatures, text: QFormerText | None = None) -> SenseTokens:
        """Return the features as tokens `(R, T, N, D)`."""
        values, mask, times = features.features
        steps = mask if mask.dim() == 2 else mask.any(-1)
        return SenseTokens(values, steps, features.rows, times, token_mask=mask if mask.dim() == 3 else None)
