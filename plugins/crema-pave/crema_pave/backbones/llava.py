"""LLaVA-OneVision and Video-LLaVA: every frame by itself through a SigLIP or CLIP vision encoder and a projector.

Shape letters: M frames, N patches of one, E vision width, S visual tokens of a frame, L width of the language model.
"""

from __future__ import annotations

import math
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import PreTrainedTokenizerBase

from crema_core.fusion.connector import VisualLayout
from crema_core.model.trainable import freeze
from crema_pave.backbones.video_language import VideoBackbone


class LlavaBackbone(VideoBackbone):
    """Frozen parts of a model of the LLaVA family.

    Args:
        model: the whole transformers model.
        tokenizer: of the language model.
        vision encoder: name of the vision encoder inside the model.
        pooled: frames are pooled to half their rows and columns, as LLaVA-OneVision does with video.
        keeps_class: a frame's class token stays whatever the configuration gives of images, as in Video-LLaVA.
        **settings: see `Backbone`.
    """

    def __init__(
        self,
        model: Any,
        tokenizer: PreTrainedTokenizerBase,
        *,
        vision_encoder: str,
        pooled: bool = False,
        keeps_class: bool = False,
        **settings: Any,
    ) -> None:
        inner = model.model
        super().__init__(
            model,
            vision_encoder=getattr(inner, vision_encoder),
            projector=inner.multi_modal_projector,
            tokenizer=tokenizer,
            **settings,
        )
        self.newline: nn.Parameter | None = getattr(inner, "image_newline", None)
        freeze(self)
        self.pooled = pooled
        self.layer: int | list[int] = model.config.vision_feature_layer
        selected = "full" if keeps_class else getattr(model.config, "vision_feature_select_strategy", "full")
        self.drops_first = selected == "default"

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

    @torch.no_grad()
    def encode_images(self, pixels_MCHW: Tensor) -> Tensor:
        """Return `(M, N, E)`: what the model's projector takes."""
        vision_encoder = cast(Any, self.vision_model)
        hidden = vision_encoder(pixels_MCHW.to(self.dtype), output_hidden_states=True).hidden_states
        chosen: Tensor = (
            hidden[self.layer]
            if isinstance(self.layer, int)
            else torch.cat([hidden[layer] for layer in self.layer], dim=-1)
        )
        return chosen[:, 1:] if self.drops_first else chosen

    def vision_parts(self) -> tuple[nn.Module, ...]:
        """Return the parts of the vision encoder that `encode_images` runs."""
        vision_encoder: Any = self.vision_model
        inner = getattr(vision_encoder, "vision_model", vision_encoder)
        return inner.embeddings, inner.encoder

    @torch.no_grad()
    def visual_tokens(self, features_MNE: Tensor) -> tuple[Tensor, Tensor]:
        """Return the tokens the language model sees `(M, S, L)`, and the same before the projector `(M, S, E)`."""
        tokens = self.projector(features_MNE.to(self.dtype))
        return (_halved(tokens), _halved(features_MNE)) if self.pooled else (tokens, features_MNE)


def _halved(tokens_MNW: Tensor) -> Tensor:
    """Pool square frames to half their rows and columns, rounded up, as LLaVA-OneVision pools video."""
    side = math.isqrt(tokens_MNW.shape[1])
    grid = tokens_MNW.unflatten(1, (side, side)).permute(0, 3, 1, 2)
    half = math.ceil(side / 2)
    return F.interpolate(grid, size=(half, half), mode="bilinear").flatten(2).transpose(1, 2)
