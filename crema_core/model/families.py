"""The checkpoint formats a backbone may have: BLIP-2 and InstructBLIP, which transformers keeps in two modules.

They differ in what the Q-Former reads: InstructBLIP's also reads the question, with a tokenizer of its own. Beside each
whole model stands a class without language model, so that a checkpoint whose language model is replaced is read without
loading that part (2.8 of 3.9 billion parameters of BLIP-2 FlanT5-XL).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from transformers import (
    Blip2Config,
    Blip2ForConditionalGeneration,
    Blip2PreTrainedModel,
    Blip2QFormerModel,
    Blip2VisionModel,
    InstructBlipConfig,
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
from crema_core.model.language_override import LanguageOverride, load_override
from crema_core.model.qformer import QFormer
from crema_core.model.shapes import shape_model, shape_override, shape_tokenizer

QFORMER_TOKENIZER = "qformer_tokenizer"
"""Folder of the Q-Former's tokenizer inside an InstructBLIP checkpoint."""
_LANGUAGE_KEYS = [r"^language_model\.", r"^language_projection\."]


class Blip2Modalities(Blip2PreTrainedModel):
    """BLIP-2's vision encoder, Q-Former and queries."""

    _keys_to_ignore_on_load_unexpected = _LANGUAGE_KEYS

    def __init__(self, config: Blip2Config) -> None:
        super().__init__(config)
        self.vision_model = Blip2VisionModel._from_config(config.vision_config)
        self.query_tokens = _queries(config)
        self.qformer = Blip2QFormerModel._from_config(config.qformer_config)
        self.post_init()  # type: ignore[no-untyped-call]


class InstructBlipTrunk(InstructBlipPreTrainedModel):
    """InstructBLIP's vision encoder, Q-Former and queries."""

    _keys_to_ignore_on_load_unexpected = _LANGUAGE_KEYS

    def __init__(self, config: InstructBlipConfig) -> None:
        super().__init__(config)
        self.vision_model = InstructBlipVisionModel._from_config(config.vision_config)
        self.query_tokens = _queries(config)
        self.qformer = InstructBlipQFormerModel._from_config(config.qformer_config)
        self.post_init()  # type: ignore[no-untyped-call]


@dataclass(frozen=True)
class QFormerFamily(BackboneFamily):
    """One format with a Q-Former.

    Attributes:
        whole: the model as published.
        trunk: the same without language model and projection into it.
        qformer_reads_text: whether the Q-Former reads the question beside the features.
    """

    whole: type[PreTrainedModel]
    trunk: type[PreTrainedModel]
    qformer_reads_text: bool

    def load(self, config: PreTrainedConfig, request: BackboneRequest) -> Backbone:
        """Load a checkpoint, with another language model instead of its own where one is asked for."""
        request.refuse_image_size(config.vision_config.image_size)
        settings, place, revision = request.settings, request.place, request.settings.revision
        dtype, quantized, override = request.dtype(config), request.quantized(config), None
        if settings.language_model is not None and request.language_config is not None:
            override = load_override(
                settings.language_model,
                settings.language_revision,
                request.language_config,
                dtype=dtype,
                quantized=quantized,
            )
            quantized = None
        whole = self.whole if override is None else self.trunk
        model = read_model(whole, place, revision, dtype=dtype, config=config, quantized=quantized)
        mean, std = image_statistics(place, revision)
        reader = read_tokenizer(place, revision, subfolder=QFORMER_TOKENIZER) if self.qformer_reads_text else None
        return _assembled(
            model,
            override,
            tokenizer=read_tokenizer(place, revision) if override is None else override.tokenizer,
            qformer_tokenizer=reader,
            settings=settings,
            image_mean=mean,
            image_std=std,
            template=own_template(place, revision) if override is None else None,
        )

    def shape(self, config: PreTrainedConfig, request: BackboneRequest) -> Backbone:
        """Return the backbone without weights; the configuration of another language model is enough."""
        request.refuse_image_size(config.vision_config.image_size)
        dtype, override = request.dtype(config), None
        if request.language_config is not None:
            override = LanguageOverride(shape_override(request.language_config, dtype=dtype), shape_tokenizer())
        return _assembled(
            shape_model(self.whole if override is None else self.trunk, config, dtype=dtype),
            override,
            tokenizer=shape_tokenizer(),
            qformer_tokenizer=shape_tokenizer() if self.qformer_reads_text else None,
            settings=request.settings,
            shape_only=True,
        )


BLIP2 = QFormerFamily(Blip2ForConditionalGeneration, Blip2Modalities, qformer_reads_text=False)
INSTRUCTBLIP = QFormerFamily(InstructBlipForConditionalGeneration, InstructBlipTrunk, qformer_reads_text=True)


def _assembled(
    model: Any,
    override: LanguageOverride | None,
    *,
    tokenizer: PreTrainedTokenizerBase,
    qformer_tokenizer: PreTrainedTokenizerBase | None,
    **more: Any,
) -> Backbone:
    """Take a BLIP-2 or InstructBLIP model apart, with another language model of its own or not."""
    return Backbone(
        override.model if override else model.language_model,
        tokenizer,
        vision_model=model.vision_model,
        qformer=QFormer(model.qformer, qformer_tokenizer),
        query_tokens=model.query_tokens,
        language_projection=None if override else model.language_projection,
        **more,
    )


def _queries(config: Any) -> nn.Parameter:
    return nn.Parameter(torch.zeros(1, config.num_query_tokens, config.qformer_config.hidden_size))
