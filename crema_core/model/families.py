"""The checkpoint formats a backbone may have: BLIP-2 and InstructBLIP, which transformers keeps in two modules.

They differ in what the Q-Former reads: InstructBLIP's also reads the question, with a tokenizer of its own. Beside each
whole model stands a class without language model, so that a checkpoint whose language model is replaced is read without
loading that part (2.8 of 3.9 billion parameters of BLIP-2 FlanT5-XL).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, cast

import torch
from torch import nn
from transformers import (
    Blip2ForConditionalGeneration,
    Blip2PreTrainedModel,
    Blip2QFormerModel,
    Blip2VisionModel,
    InstructBlipForConditionalGeneration,
    InstructBlipPreTrainedModel,
    InstructBlipQFormerModel,
    InstructBlipVisionModel,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from crema_core.model.backbone import Backbone
from crema_core.model.backbone_family import BackboneFamily, BackboneRequest
from crema_core.model.checkpoint import image_statistics, own_template, read_model, read_tokenizer
from crema_core.model.language_override import auto_class, load_override
from crema_core.model.qformer import QFormer
from crema_core.model.settings import BackboneSettings
from crema_core.model.shapes import shape_model, shape_tokenizer

QFORMER_TOKENIZER = "qformer_tokenizer"
"""Folder of the Q-Former's tokenizer inside an InstructBLIP checkpoint."""


class Trunk:
    """Vision encoder, Q-Former and queries of a format; the first base of a model class without language model."""

    _keys_to_ignore_on_load_unexpected: set[str] | list[str] | None = [r"^language_model\.", r"^language_projection\."]  # noqa: RUF012
    parts: ClassVar[tuple[Any, Any]]  # classes of vision encoder and Q-Former

    def __init__(self, config: Any) -> None:
        super().__init__(config)  # type: ignore[call-arg]  # of the second base
        vision, qformer = self.parts
        self.vision_model = vision._from_config(config.vision_config)
        num_queries, width = config.num_query_tokens, config.qformer_config.hidden_size
        self.query_tokens = nn.Parameter(torch.zeros(1, num_queries, width))
        self.qformer = qformer._from_config(config.qformer_config)
        cast(Any, self).post_init()


class Blip2Trunk(Trunk, Blip2PreTrainedModel):
    """BLIP-2 without its language model."""

    parts = (Blip2VisionModel, Blip2QFormerModel)


class InstructBlipTrunk(Trunk, InstructBlipPreTrainedModel):
    """InstructBLIP without its language model."""

    parts = (InstructBlipVisionModel, InstructBlipQFormerModel)


@dataclass(frozen=True)
class QFormerFamily(BackboneFamily):
    """One format with a Q-Former."""

    whole: type[PreTrainedModel]  # the model as published
    trunk: type[PreTrainedModel]  # the same without language model and projection into it
    qformer_reads_text: bool  # whether the Q-Former reads the question beside the features

    def load(self, config: PreTrainedConfig, request: BackboneRequest) -> Backbone:
        """Load a checkpoint, with another language model instead of its own where one is asked for."""
        request.refuse_image_size(config.vision_config.image_size)
        settings, place, revision = request.settings, request.place, request.settings.revision
        dtype, quantized, override = request.dtype(config), request.quantized(config), None
        if request.language_config is not None:
            override = load_override(settings, request.language_config, dtype=dtype, quantized=quantized)
            quantized = None
        whole = self.whole if override is None else self.trunk
        model: Any = read_model(whole, place, revision, dtype=dtype, config=config, quantized=quantized)
        mean, std = image_statistics(place, revision)
        reader = read_tokenizer(place, revision, subfolder=QFORMER_TOKENIZER) if self.qformer_reads_text else None
        return _assembled(
            model,
            override or (model.language_model, read_tokenizer(place, revision)),
            reader,
            settings=settings,
            image_mean=mean,
            image_std=std,
            template=own_template(place, revision) if override is None else None,
        )

    def shape(self, config: PreTrainedConfig, request: BackboneRequest) -> Backbone:
        """Return the backbone without weights; the configuration of another language model is enough."""
        request.refuse_image_size(config.vision_config.image_size)
        dtype, language = request.dtype(config), request.language_config
        model = shape_model(self.whole if language is None else self.trunk, config, dtype=dtype)
        if language is None:
            decoder = model.language_model
        else:
            decoder = shape_model(auto_class(language).from_config, language, dtype=dtype)
        reader = shape_tokenizer() if self.qformer_reads_text else None
        return _assembled(model, (decoder, shape_tokenizer()), reader, settings=request.settings, shape_only=True)


BLIP2 = QFormerFamily(Blip2ForConditionalGeneration, Blip2Trunk, qformer_reads_text=False)
INSTRUCTBLIP = QFormerFamily(InstructBlipForConditionalGeneration, InstructBlipTrunk, qformer_reads_text=True)


def _assembled(
    model: Any,
    language: tuple[PreTrainedModel, PreTrainedTokenizerBase],
    reader: PreTrainedTokenizerBase | None,
    *,
    settings: BackboneSettings,
    **more: Any,
) -> Backbone:
    """Take a BLIP-2 or InstructBLIP model apart; the language model may be another than its own."""
    return Backbone(
        *language,
        settings=settings,
        vision_model=model.vision_model,
        qformer=QFormer(model.qformer, reader),
        query_tokens=model.query_tokens,
        language_projection=model.language_projection if settings.language_model is None else None,
        **more,
    )
