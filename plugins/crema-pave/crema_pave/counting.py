"""LLaVA-OneVision without its weights, as PAVE's tables count it: frames through SigLIP and the projector, pooled.

A checkpoint is loaded as core loads every vision-language model; this runs on shapes alone, which have no processor.

Shape letters: M frames, N patches of one, E vision width, S visual tokens of a frame, L width of the language model.
"""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import torch
from accelerate import init_empty_weights
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import AutoModelForCausalLM, LlavaOnevisionForConditionalGeneration, PreTrainedConfig

from crema_core.errors import CheckpointError
from crema_core.fusion.connector import VisualLayout
from crema_core.model.backbone import Backbone
from crema_core.model.backbone_family import BackboneRequest, NamedShape
from crema_core.model.chat_format import ChatFormat, override_chat_format
from crema_core.model.shapes import shape_model, shape_tokenizer
from crema_core.model.trainable import freeze
from crema_core.model.vlm.family import VisualFamily

FOLDER = Path(__file__).parent / "shapes"


class CountedOneVision(Backbone):
    """Frozen parts of a LLaVA-OneVision model of shapes alone.

    Args:
        model: the whole transformers model; it is taken apart.
        **settings: see `Backbone`.
    """

    def __init__(self, model: Any, **settings: Any) -> None:
        with init_empty_weights():
            language: Any = AutoModelForCausalLM.from_config(model.config.text_config)
        language.model, language.lm_head = model.model.language_model, model.lm_head
        super().__init__(
            language.eval(), shape_tokenizer(), vision_model=model.model.vision_tower, shape_only=True, **settings
        )
        self.projector, self.newline = model.model.multi_modal_projector, model.model.image_newline
        self.layer = int(model.config.vision_feature_layer)
        freeze(self)
        self.eval()

    @property
    def visual(self) -> CountedOneVision:
        """Its own visual tokens are asked of itself."""
        return self

    @property
    def layout(self) -> VisualLayout:
        """How the visual tokens of a frame lie."""
        side = math.ceil(self.image_size // int(self._vision_config.patch_size) / 2)
        return VisualLayout(side, side, inner_width=self.vision_dim, newline=self.newline)

    def chat_format(self, *, chat: bool) -> ChatFormat:
        """Return frames, a new line and the question."""
        return replace(override_chat_format(self.language_model, self.tokenizer, chat=False), before="\n")

    @torch.no_grad()
    def encode_images(self, pixels_MCHW: Tensor) -> Tensor:
        """Return `(M, N, E)`: what the model's projector takes."""
        vision = cast(Any, self.vision_model)
        hidden: Tensor = vision(pixels_MCHW.to(self.dtype), output_hidden_states=True).hidden_states[self.layer]
        return hidden

    def vision_parts(self) -> tuple[nn.Module, ...]:
        """Return the parts of the vision encoder that `encode_images` runs."""
        vision: Any = self.vision_model
        inner = getattr(vision, "vision_model", vision)
        return inner.embeddings, inner.encoder

    @torch.no_grad()
    def visual_tokens(self, features_MNE: Tensor) -> tuple[Tensor, Tensor]:
        """Return the tokens the language model sees `(M, S, L)`, and the same before the projector `(M, S, E)`."""
        return _halved(self.projector(features_MNE.to(self.dtype))), _halved(features_MNE)


class OneVisionFamily(VisualFamily):
    """LLaVA-OneVision: checkpoints as core loads them, shapes to count PAVE on."""

    def shape(self, config: PreTrainedConfig, request: BackboneRequest) -> CountedOneVision:
        """Return the backbone without weights.

        Raises:
            CheckpointError: for another language model.
            OptionsError: for another size of its pictures.
        """
        settings = request.settings
        if settings.language_model is not None:
            raise CheckpointError(
                f"'{settings.source}' is a vision-language model, whose language model reads its own visual tokens, "
                f"and language_model='{settings.language_model}' was to replace it. Accepted: such a backbone as it "
                "is. Leave language_model out."
            )
        request.refuse_image_size(cast(Any, config).vision_config.image_size)
        whole = shape_model(LlavaOnevisionForConditionalGeneration, config, dtype=request.dtype(config))
        return CountedOneVision(whole, settings=settings)


def _halved(tokens_MNW: Tensor) -> Tensor:
    """Pool square frames to half their rows and columns, rounded up, as LLaVA-OneVision pools video."""
    side = math.isqrt(tokens_MNW.shape[1])
    grid = tokens_MNW.unflatten(1, (side, side)).permute(0, 3, 1, 2)
    half = math.ceil(side / 2)
    return F.interpolate(grid, size=(half, half), mode="bilinear").flatten(2).transpose(1, 2)


FAMILY = OneVisionFamily()
LLAVA_ONEVISION_05B, LLAVA_ONEVISION_7B = (
    NamedShape(
        f"llava-onevision-qwen2-{size}",
        FOLDER / f"llava-onevision-qwen2-{size}.json",
        weights=f"llava-hf/llava-onevision-qwen2-{size}-ov-hf",
    )
    for size in ("0.5b", "7b")
)
