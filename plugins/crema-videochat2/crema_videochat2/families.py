"""What this package loads: converted VideoChat2 checkpoints and InstructBlipVideo of transformers."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, cast

from transformers import (
    AutoModelForCausalLM,
    InstructBlipVideoForConditionalGeneration,
    InstructBlipVideoPreTrainedModel,
    InstructBlipVideoQFormerModel,
    InstructBlipVideoVisionModel,
    PreTrainedConfig,
)

from crema_core.errors import CheckpointError, OptionsError
from crema_core.model.backbone import Backbone
from crema_core.model.backbone_family import BackboneFamily, BackboneRequest, NamedShape
from crema_core.model.checkpoint import own_template
from crema_core.model.families import QFormerFamily, Trunk
from crema_core.model.shapes import shape_model, shape_tokenizer, shapes_alone
from crema_core.model.tuning import add_lora
from crema_videochat2.backbone import TEMPLATE, VideoChat2Backbone
from crema_videochat2.checkpoint import LORA_NAME, Parts, read_parts
from crema_videochat2.configuration import VideoChat2Config
from crema_videochat2.model import VideoChat2Trunk

SHAPES = Path(__file__).parent / "shapes"
_LORA_RANK = 16
_LORA_LAYERS = r"(.*\.(q_proj|k_proj|v_proj|o_proj|gate_proj|up_proj|down_proj)|lm_head)"


class VideoChat2Family(BackboneFamily):
    """Checkpoints that `crema convert-videochat2` writes."""

    def load(self, config: PreTrainedConfig, request: BackboneRequest) -> VideoChat2Backbone:
        """Load a checkpoint; its language model, with the LoRA it was trained with, stays its own."""
        own = _at_size(_checked(config, request), request)
        dtype = request.dtype(own)
        place, revision = request.place, request.settings.revision
        parts = read_parts(place, revision, dtype=dtype, config=own, quantized=request.quantized(own))
        vision = parts.trunk.vision_model  # its last LayerNorm stays in float32: half has no epsilon of 1e-12
        vision.embeddings.to(dtype)
        vision.encoder.to(dtype)
        wording = {**TEMPLATE, **own_template(place, revision)}
        return VideoChat2Backbone(parts, own, settings=request.settings, template=wording)

    def shape(self, config: PreTrainedConfig, request: BackboneRequest) -> VideoChat2Backbone:
        """Return the backbone without weights, with the published LoRA of the language model."""
        own = _at_size(_checked(config, request), request)
        dtype = request.dtype(own)
        trunk = shape_model(VideoChat2Trunk, own, dtype=dtype)
        model = shape_model(AutoModelForCausalLM.from_config, cast(Any, own).text_config, dtype=dtype)
        if own.has_lora:
            with shapes_alone(model):
                add_lora(model, LORA_NAME, targets=_LORA_LAYERS, rank=_LORA_RANK, alpha=2 * _LORA_RANK, dropout=0.0)
        parts = Parts(trunk, model, shape_tokenizer(), shape_tokenizer())
        return VideoChat2Backbone(parts, own, settings=request.settings, template=TEMPLATE, shape_only=True)


def _checked(config: PreTrainedConfig, request: BackboneRequest) -> VideoChat2Config:
    asked = request.settings
    if asked.language_model is not None:
        raise CheckpointError(
            f"'{asked.source}' is a VideoChat2, whose Q-Former and language model were trained together, and "
            f"language_model='{asked.language_model}' was to replace it. Accepted: the Mistral it was converted with. "
            "Leave language_model out."
        )
    assert isinstance(config, VideoChat2Config), "the family is asked about its own model type"
    return config


def _at_size(config: VideoChat2Config, request: BackboneRequest) -> VideoChat2Config:
    """Return the configuration with the side of the pictures that was asked for; positions follow by their rule."""
    asked, vision = request.settings.image_size, cast(Any, config).vision_config
    if asked is None or asked == vision.image_size:
        return config
    if asked % vision.patch_size:
        near = max(1, round(asked / vision.patch_size)) * vision.patch_size
        raise OptionsError(
            f"image_size={asked} is no whole number of this vision encoder's patches of {vision.patch_size} pixels. "
            f"Accepted: multiples of {vision.patch_size}. Use image_size={near}, or leave it out for "
            f"{vision.image_size}."
        )
    vision.image_size = asked
    return config


class InstructBlipVideoTrunk(Trunk, InstructBlipVideoPreTrainedModel):
    """InstructBlipVideo without its language model."""

    parts: ClassVar[tuple[Any, Any]] = (InstructBlipVideoVisionModel, InstructBlipVideoQFormerModel)


@dataclass(frozen=True)
class InstructBlipVideoFamily(QFormerFamily):
    """InstructBLIP asked about clips: 32 tokens for each of their frames, each read with the question."""

    def load(self, config: PreTrainedConfig, request: BackboneRequest) -> Backbone:
        """Load a checkpoint, with another language model instead of its own where one is asked for."""
        return _with_own_norm(super().load(config, request), config)

    def shape(self, config: PreTrainedConfig, request: BackboneRequest) -> Backbone:
        """Return the backbone without weights; the configuration of another language model is enough."""
        return _with_own_norm(super().shape(config, request), config)


def _with_own_norm(backbone: Backbone, config: PreTrainedConfig) -> Backbone:
    backbone.norm_eps = float(cast(Any, config).vision_config.layer_norm_eps)
    backbone.usual_frames = 4  # what its processor takes
    return backbone


VIDEOCHAT2 = VideoChat2Family()
INSTRUCTBLIP_VIDEO = InstructBlipVideoFamily(
    InstructBlipVideoForConditionalGeneration, InstructBlipVideoTrunk, qformer_reads_text=True
)
VIDEOCHAT2_7B = NamedShape(
    "videochat2-mistral-7b", SHAPES / "videochat2-mistral-7b.json", weights="OpenGVLab/VideoChat2_stage3_Mistral_7B"
)
