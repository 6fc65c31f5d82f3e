"""From one modality's features to the tokens a fusion gets: what is between encoder and language model.

A strategy brings the connectors it needs, each a subclass of `Connector`. CREMA's modalities pass the shared Q-Former
(`crema_core.model.mmqa`), which is what a strategy gets that names none. Everything trainable of a modality, except its
block in the fusion, is its connector's.

Shape letters: R samples that have the modality, T steps, N tokens of a step, D feature width, Q tokens a connector
gives, W their width, M steps of all samples, E vision width, S visual tokens of a step, L language-model width.
"""

from __future__ import annotations

import abc
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from torch import Tensor, nn

from crema_core.modality import Modality
from crema_core.plugins.spec import MMQASpec
from crema_core.tokens import ModalityFeatures, ModalityTokens

if TYPE_CHECKING:
    from crema_core.model.backbone import Backbone


class QFormerText(NamedTuple):
    """Questions as a Q-Former reads them.

    Attributes:
        ids: `(B, P)` int64.
        mask: `(B, P)` bool, False for padding.
    """

    ids: Tensor
    mask: Tensor

    def rows(self, rows: Tensor) -> QFormerText:
        """Return the questions of the samples `rows` `(M,)`, in that order."""
        return QFormerText(self.ids[rows], self.mask[rows])


@dataclass(frozen=True)
class VisualLayout:
    """What a vision-language model's own visual tokens are.

    Attributes:
        width: of a token with what the language model's first layers add.
        inner_width: width of the same tokens before the projector; 0 where they cannot be told.
        closing: tokens at the end of a clip that belong to no frame: LLaVA-OneVision's newline.
    """

    width: int
    inner_width: int = 0
    closing: int = 0


@dataclass(frozen=True)
class ConnectorRequest:
    """What a connector is built for.

    Attributes:
        modality: the modality, its weights loaded.
        sizes: of an adapter around a Q-Former, number of queries filled in where the backbone has queries.
        backbone: the frozen parts.
    """

    modality: Modality
    sizes: MMQASpec
    backbone: Backbone


class Connector(nn.Module, abc.ABC):
    """Base of the connectors.

    Attributes:
        width: W.
        num_tokens: Q, or None where it is as the features have it.
        reads_text: whether the tokens depend on the question.
        passes_qformer: whether it is an adapter around the backbone's Q-Former, whose queries fusions count.
        lr_scale: what the learning rate of a training is multiplied with for its weights; set by the strategy.
    """

    width: int
    num_tokens: int | None = None
    reads_text: bool = False
    passes_qformer: bool = False
    lr_scale: float = 1.0

    @abc.abstractmethod
    def forward(self, features: ModalityFeatures, text: QFormerText | None = None) -> ModalityTokens:
        """Return the tokens of the samples that have the modality; differentiable in what is trained.

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
        """Return the modules whose arithmetic belongs to the modality."""
        return self.children()

    def frozen(self) -> list[nn.Parameter]:
        """Return weights outside of it that it passes features through and that never change; none by default."""
        return []

    def parts(self, options: Mapping[str, Any]) -> Sequence[str]:
        """Return names of what its weights stand for one by one, in their order; adapters of others are refused.

        Args:
            options: of the modality, as a saved model records them. By default there is one part, without a name.
        """
        return ("one",)

    def outputs(self, tokens: ModalityTokens) -> Mapping[str, Sequence[Mapping[str, float]]]:
        """Return further numbers about each of R samples, for answers and reports; none by default.

        Args:
            tokens: that this connector gave.

        Returns:
            By name of an output, such as "encoder_weights", R mappings from names to numbers.
        """
        return {}


class ConnectorFactory(Protocol):
    """What a strategy names: a function, a class method or a class that makes the connector of one modality."""

    def __call__(self, request: ConnectorRequest, /) -> Connector:
        """Return the connector.

        Raises:
            BuildError: when this backbone or this modality has no such connector.
        """
