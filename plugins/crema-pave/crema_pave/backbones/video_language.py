"""Video language models as backbones: their own vision encoder and projector in front of their own language model.

A strategy may hand these visual tokens to the language model, or change them on the way. Everything comes from
transformers, and the tokens are those its own `get_video_features` gives. What each kind does its own way is in
`llava` and `qwen_vl`.

Shape letters: M steps (a frame, or several seen together), N patches of one, E vision width, S visual tokens of a step,
L width of the language model.
"""

from __future__ import annotations

import abc
from typing import Any

from torch import Tensor, nn
from transformers import PreTrainedTokenizerBase

from crema_core.fusion.connector import VisualLayout
from crema_core.model.backbone import Backbone
from crema_core.model.chat_format import ChatFormat
from crema_core.model.trainable import freeze
from crema_pave.backbones.chat_format import video_chat_format
from crema_pave.backbones.text_decoder import causal_model


class VideoBackbone(Backbone, abc.ABC):
    """Frozen parts of a video language model.

    Args:
        model: the whole transformers model.
        vision encoder: its vision encoder.
        projector: what is between vision encoder and language model.
        tokenizer: of the language model.
        **settings: see `Backbone`.
    """

    def __init__(
        self,
        model: Any,
        *,
        vision_encoder: nn.Module,
        projector: nn.Module,
        tokenizer: PreTrainedTokenizerBase,
        **settings: Any,
    ) -> None:
        super().__init__(causal_model(model), tokenizer, vision_model=vision_encoder, **settings)
        self.projector = projector
        self.placeholder = str(tokenizer.convert_ids_to_tokens(model.config.video_token_id))
        freeze(self)
        self.eval()

    @property
    def visual(self) -> VideoBackbone:
        """Its own visual tokens are asked of itself."""
        return self

    @property
    @abc.abstractmethod
    def layout(self) -> VisualLayout:
        """How the visual tokens of a step lie."""

    def chat_format(self, *, chat: bool) -> ChatFormat:
        """Return what surrounds the frames, question and answer, by the model's own chat template."""
        return video_chat_format(self.language_model, self.tokenizer, chat=chat, placeholder=self.placeholder)

    @abc.abstractmethod
    def visual_tokens(self, features_MNE: Tensor) -> tuple[Tensor, Tensor]:
        """Return the tokens the language model sees `(M, S, L)`, and the same before the projector `(M, S, E)`."""
