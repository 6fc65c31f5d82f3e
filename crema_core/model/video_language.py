"""Video language models as backbones: their own vision tower and projector in front of their own language model.

PAVE updates the visual tokens of such a model (arXiv 2503.19794). Everything comes from transformers, and the tokens
are those its own `get_video_features` gives.

Shape letters: M images, N patches of one, E vision width, R samples, T frames, S visual tokens of a frame, L width of
the language model.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, cast

import torch
from accelerate import init_empty_weights
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import (
    AutoModelForCausalLM,
    LlavaOnevisionForConditionalGeneration,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    VideoLlavaForConditionalGeneration,
)

from crema_core.fusion.base import VisualLayout
from crema_core.model.backbone import Backbone
from crema_core.model.connector import Connector
from crema_core.model.qformer import QFormerText
from crema_core.model.tokens import SenseFeatures, SenseTokens
from crema_core.model.trainable import freeze
from crema_core.model.turns import Turns, video_turns


@dataclass(frozen=True)
class VideoFamily:
    """One kind of video language model.

    Attributes:
        whole: the model as published.
        tower: name of the vision tower inside it.
        pooled: whether frames are pooled to half their rows and columns, as LLaVA-OneVision does with video.
        keeps_class: whether a frame's class token stays whatever the configuration says of images, as in Video-LLaVA.
    """

    whole: type[PreTrainedModel]
    tower: str
    pooled: bool = False
    keeps_class: bool = False


VIDEO_FAMILIES: dict[str, VideoFamily] = {
    "llava_onevision": VideoFamily(LlavaOnevisionForConditionalGeneration, "vision_tower", pooled=True),
    "video_llava": VideoFamily(VideoLlavaForConditionalGeneration, "video_tower", keeps_class=True),
}
"""By `model_type` of the configuration."""


class VideoBackbone(Backbone):
    """Frozen parts of a video language model.

    Args:
        model: the whole transformers model.
        family: its kind.
        tokenizer: of the language model.
        **settings: see `Backbone`.
    """

    def __init__(self, model: Any, family: VideoFamily, tokenizer: PreTrainedTokenizerBase, **settings: Any) -> None:
        tower = getattr(model.model, family.tower)
        super().__init__(causal_model(model), tokenizer, vision_model=tower, **settings)
        self.projector: nn.Module = model.model.multi_modal_projector
        self.newline: nn.Parameter | None = getattr(model.model, "image_newline", None)
        self.pooled = family.pooled
        self.layer: int | list[int] = model.config.vision_feature_layer
        selected = "full" if family.keeps_class else getattr(model.config, "vision_feature_select_strategy", "full")
        self.drops_first = selected == "default"
        self.placeholder = str(tokenizer.convert_ids_to_tokens(model.config.video_token_id))
        freeze(self)
        self.eval()

    @property
    def layout(self) -> VisualLayout:
        """How the visual tokens of a frame lie; a single row where a class token is among them."""
        side = self.image_size // int(self._vision_config.patch_size)
        if self.pooled:
            side = math.ceil(side / 2)
        prefix = 0 if self.pooled or self.drops_first else int(self._has_class_token)
        rows, columns = (1, side * side + prefix) if prefix else (side, side)
        return VisualLayout(rows, columns, inner_width=self.vision_dim, newline=self.newline)

    @property
    def vision_dim(self) -> int:
        """Width E of the vision features; several layers are side by side where the model was made so."""
        layers = 1 if isinstance(self.layer, int) else len(self.layer)
        return int(self._vision_config.hidden_size) * layers

    @property
    def _has_class_token(self) -> bool:
        return str(self._vision_config.model_type).startswith("clip")

    def turns(self, *, chat: bool) -> Turns:
        """Return what stands around the frames, question and answer, by the model's own chat template."""
        return video_turns(self.language_model, self.tokenizer, chat=chat, placeholder=self.placeholder)

    @torch.no_grad()
    def encode_images(self, pixels_MCHW: Tensor) -> Tensor:
        """Return `(M, N, E)`: what the model's projector takes."""
        tower = cast(Any, self.vision_model)
        hidden = tower(pixels_MCHW.to(self.dtype), output_hidden_states=True).hidden_states
        chosen: Tensor = (
            hidden[self.layer]
            if isinstance(self.layer, int)
            else torch.cat([hidden[layer] for layer in self.layer], dim=-1)
        )
        return chosen[:, 1:] if self.drops_first else chosen

    def vision_parts(self) -> tuple[nn.Module, ...]:
        """Return the parts of the vision tower that `encode_images` runs."""
        tower: Any = self.vision_model
        inner = getattr(tower, "vision_model", tower)
        return inner.embeddings, inner.encoder

    @torch.no_grad()
    def visual_tokens(self, features_MNE: Tensor) -> tuple[Tensor, Tensor]:
        """Return the tokens the language model sees `(M, S, L)`, and the same before the projector `(M, S, E)`."""
        tokens = self.projector(features_MNE.to(self.dtype))
        return (_halved(tokens), _halved(features_MNE)) if self.pooled else (tokens, features_MNE)


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


def causal_model(whole: Any) -> PreTrainedModel:
    """Return the language model inside a video language model as one that can be asked by itself; nothing is copied."""
    with init_empty_weights():
        model = AutoModelForCausalLM.from_config(whole.config.text_config)
    model.model, model.lm_head = whole.model.language_model, whole.lm_head
    model.generation_config = whole.generation_config
    return cast(PreTrainedModel, model.eval())


def _halved(tokens_MNW: Tensor) -> Tensor:
    """Pool square frames to half their rows and columns, rounded up, as LLaVA-OneVision pools video."""
    side = math.isqrt(tokens_MNW.shape[1])
    grid = tokens_MNW.unflatten(1, (side, side)).permute(0, 3, 1, 2)
    half = math.ceil(side / 2)
    return F.interpolate(grid, size=(half, half), mode="bilinear").flatten(2).transpose(1, 2)
