"""From one sense's features to the tokens a fusion gets: what stands between encoder and language model.

A strategy brings the connectors it needs. CREMA's senses pass the shared Q-Former (`crema_core.model.mmqa`), which is
what a strategy gets that names none. Two more are here: the features as they are (`FeatureConnector`), and the
backbone's own visual tokens (`VisualConnector`). A package writes its own as a subclass of `Connector`. Everything
trainable of a sense, except its block in the fusion, is its connector's.

Shape letters: R samples that have the sense, T steps, N tokens of a step, D feature width, Q tokens a connector gives,
W their width, M steps of all samples, E vision width, S visual tokens of a step, L language-model width.
"""

from __future__ import annotations

import abc
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

from torch import Tensor, nn

from crema_core.errors import BuildError
from crema_core.modality import Modality
from crema_core.plugins.spec import MMQASpec
from crema_core.tokens import SenseFeatures, SenseTokens

BEFORE_PROJECTOR = "before_projector"
"""Key in `SenseTokens.extras` of the backbone's visual tokens before its projector."""


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
    """How the tokens of a video language model's own projector lie.

    Attributes:
        rows, columns: of one frame's tokens, rows first.
        inner_width: width E of the same tokens before the projector.
        newline: `(L,)` the model's learned end of a row, or None where it has none.
    """

    rows: int
    columns: int
    inner_width: int
    newline: nn.Parameter | None = None


class VisualSource(Protocol):
    """What a backbone with visual tokens of its own offers."""

    projector: nn.Module
    """What stands between its vision encoder and its language model; frozen."""

    @property
    def layout(self) -> VisualLayout:
        """How the visual tokens of a step lie."""

    def visual_tokens(self, features_MNE: Tensor) -> tuple[Tensor, Tensor]:
        """Return the tokens the language model sees `(M, S, L)`, and the same before the projector `(M, S, E)`."""


class BackboneSide(Protocol):
    """What a connector may know of the backbone it is built for."""

    source: str
    """Where it came from, for messages."""

    @property
    def language_dim(self) -> int:
        """Width L of the language model's input embeddings."""

    @property
    def vision_dim(self) -> int:
        """Width E of the vision features; 0 where there is no vision encoder."""

    @property
    def visual(self) -> VisualSource | None:
        """Its own visual tokens; None where it has none."""


@dataclass(frozen=True)
class ConnectorRequest:
    """What a connector is built for.

    Attributes:
        modality: the sense, its weights loaded.
        sizes: of an adapter around a Q-Former, number of queries filled in where the backbone has queries.
        backbone: the frozen parts.
    """

    modality: Modality
    sizes: MMQASpec
    backbone: BackboneSide


class Connector(nn.Module, abc.ABC):
    """Base of the connectors.

    Attributes:
        width: W.
        num_tokens: Q, or None where it is as the features have it.
        reads_text: whether the tokens depend on the question.
        passes_qformer: whether it is an adapter around the backbone's Q-Former, whose queries fusions count.
    """

    width: int
    num_tokens: int | None = None
    reads_text: bool = False
    passes_qformer: bool = False

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

    def parts(self, options: Mapping[str, Any]) -> Sequence[str]:
        """Return names of what its weights stand for one by one, in their order; adapters of others are refused.

        Args:
            options: of the sense, as a saved model records them. By default there is one part, without a name.
        """
        return ("one",)

    def outputs(self, tokens: SenseTokens) -> Mapping[str, Sequence[Mapping[str, float]]]:
        """Return further numbers about each of R samples, for answers and reports; none by default.

        Args:
            tokens: that this connector gave.

        Returns:
            By name of an output, such as "encoder_weights", R mappings from names to numbers.
        """
        return {}


class ConnectorFactory(Protocol):
    """What a strategy names: a function, a class method or a class that makes the connector of one sense."""

    def __call__(self, request: ConnectorRequest, /) -> Connector:
        """Return the connector.

        Raises:
            BuildError: when this backbone or this sense has no such connector.
        """


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
        """Return the connector of a sense; every sense has features."""
        return cls(request.modality.feature_dim)

    def forward(self, features: SenseFeatures, text: QFormerText | None = None) -> SenseTokens:
        """Return the features as tokens `(R, T, N, D)`."""
        values, mask, times = features.features
        steps = mask if mask.dim() == 2 else mask.any(-1)
        return SenseTokens(values, steps, features.rows, times, token_mask=mask if mask.dim() == 3 else None)


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
        """Return the connector of a sense that sees through the backbone.

        Raises:
            BuildError: when the backbone has no visual tokens, or the sense brings features of another encoder.
        """
        modality, backbone = request.modality, request.backbone
        name = modality.spec.name
        if backbone.visual is None:
            raise BuildError(
                [
                    f"The tokens of '{name}' are to be a video language model's own, and the backbone "
                    f"'{backbone.source}' is none. Accepted: a video language model of transformers. Use "
                    "backbone='llava-hf/llava-onevision-qwen2-0.5b-ov-hf'."
                ]
            )
        if modality.spec.encoder != "vision" or modality.feature_dim != backbone.vision_dim:
            raise BuildError(
                [
                    f"The tokens of '{name}' are to be the video language model's own, and this sense brings features "
                    f"of another encoder ({modality.feature_dim} wide, the backbone's are {backbone.vision_dim}). "
                    "Accepted: a major sense that sees through the backbone. Leave its encoder option out, or make "
                    "another sense major."
                ]
            )
        return cls(backbone.visual, width=backbone.language_dim)

    def forward(self, features: SenseFeatures, text: QFormerText | None = None) -> SenseTokens:
        """Return `(R, T, S, L)`, with the tokens before the projector `(R, T, S, E)` among the extras."""
        values, mask, times = features.features
        steps = mask if mask.dim() == 2 else mask.any(-1)
        tokens, inner = self._shared[0].visual_tokens(values.flatten(0, 1))
        shape = values.shape[:2]
        extras = {BEFORE_PROJECTOR: inner.unflatten(0, shape).float()}
        return SenseTokens(tokens.unflatten(0, shape).float(), steps, features.rows, times, extras=extras)

    def counted(self) -> list[nn.Module]:
        """Return the projector."""
        return [self._shared[0].projector]

    def frozen(self) -> list[nn.Parameter]:
        """Return the projector's weights."""
        return list(self._shared[0].projector.parameters())
