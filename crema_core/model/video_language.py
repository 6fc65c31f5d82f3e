"""Video language models as backbones: their own vision tower and projector in front of their own language model.

PAVE updates the visual tokens of such a model (arXiv 2503.19794). Everything comes from transformers, and the tokens
are those its own `get_video_features` gives. What each kind does its own way is in `llava` and `qwen_vl`.

Shape letters: M steps (a frame, or several seen together), N patches of one, E vision width, R samples, T steps of a
clip, S visual tokens of a step, L width of the language model.
"""

from __future__ import annotations

import abc
from typing import Any

from torch import Tensor, nn
from transformers import PreTrainedTokenizerBase

from crema_core.fusion.base import VisualLayout
from crema_core.model.backbone import Backbone
from crema_core.model.connector import Connector
from crema_core.model.qformer import QFormerText
from crema_core.model.text_decoder import causal_model
from crema_core.model.trainable import freeze
from crema_core.model.turns import Turns, video_turns
from crema_core.tokens import SenseFeatures, SenseTokens


class VideoBackbone(Backbone, abc.ABC):
    """Frozen parts of a video language model.

    Args:
        model: the whole transformers model.
        tower: its vision tower.
        projector: what stands between tower and language model.
        tokenizer: of the language model.
        **settings: see `Backbone`.
    """

    def __init__(
        self, model: Any, *, tower: nn.Module, projector: nn.Module, tokenizer: PreTrainedTokenizerBase, **settings: Any
    ) -> None:
        super().__init__(causal_model(model), tokenizer, vision_model=tower, **settings)
        self.projector = projector
        self.placeholder = str(tokenizer.convert_ids_to_tokens(model.config.video_token_id))
        freeze(self)
        self.eval()

    @property
    @abc.abstractmethod
    def layout(self) -> VisualLayout:
        """How the visual tokens of a step lie."""

    def turns(self, *, chat: bool) -> Turns:
        """Return what stands around the frames, question and answer, by the model's own chat template."""
        return video_turns(self.language_model, self.tokenizer, chat=chat, placeholder=self.placeholder)

    @abc.abstractmethod
    def visual_tokens(self, features_MNE: Tensor) -> tuple[Tensor, Tensor]:
        """Return the tokens the language model sees `(M, S, L)`, and the same before the projector `(M, S, E)`."""


class VisualConnector(Connector):
    """A video language model's own projector; nothing in it is trained.

    Args:
        backbone: not a part of this module.
    """

    kind = "visual"

    def __init__(self, backbone: VideoBackbone) -> None:
        super().__init__()
        layout = backbone.layout
        self.width, self.num_tokens = backbone.language_dim, layout.rows * layout.columns
        self._shared = (backbone,)  # in a tuple: torch would make an attribute a child

    def forward(self, features: SenseFeatures, text: QFormerText | None = None) -> SenseTokens:
        """Return `(R, T, S, L)` with the tokens before the projector as `inner` `(R, T, S, E)`."""
        values, mask, times = features.features
        steps = mask if mask.dim() == 2 else mask.any(-1)
        tokens, inner = self._shared[0].visual_tokens(values.flatten(0, 1))
        shape = values.shape[:2]
        return SenseTokens(
            tokens.unflatten(0, shape).float(), steps, features.rows, times, inner=inner.unflatten(0, shape).float()
        )

    def counted(self) -> list[nn.Module]:
        """Return the projector."""
        return [self._shared[0].projector]

    def frozen(self) -> list[nn.Parameter]:
        """Return the projector's weights."""
        return list(self._shared[0].projector.parameters())
