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
)

QFORMER_TOKENIZER = "qformer_tokenizer"
"""Folder of the Q-Former's tokenizer inside an InstructBLIP checkpoint."""
_LANGUAGE_KEYS = [r"^language_model\.", r"^language_projection\."]


class Blip2Senses(Blip2PreTrainedModel):
    """BLIP-2's vision encoder, Q-Former and queries."""

    _keys_to_ignore_on_load_unexpected = _LANGUAGE_KEYS

    def __init__(self, config: Blip2Config) -> None:
        super().__init__(config)
        self.vision_model = Blip2VisionModel._from_config(config.vision_config)
        self.query_tokens = _queries(config)
        self.qformer = Blip2QFormerModel._from_config(config.qformer_config)
        self.post_init()  # type: ignore[no-untyped-call]


class InstructBlipSenses(InstructBlipPreTrainedModel):
    """InstructBLIP's vision encoder, Q-Former and queries."""

    _keys_to_ignore_on_load_unexpected = _LANGUAGE_KEYS

    def __init__(self, config: InstructBlipConfig) -> None:
        super().__init__(config)
        self.vision_model = InstructBlipVisionModel._from_config(config.vision_config)
        self.query_tokens = _queries(config)
        self.qformer = InstructBlipQFormerModel._from_config(config.qformer_config)
        self.post_init()  # type: ignore[no-untyped-call]


@dataclass(frozen=True)
class Family:
    """One format.

    Attributes:
        config: its configuration class.
        whole: the model as published.
        senses: the same without language model and projection into it.
        qformer_reads_text: whether the Q-Former reads the question beside the features.
    """

    config: type[PreTrainedConfig]
    whole: type[PreTrainedModel]
    senses: type[PreTrainedModel]
    qformer_reads_text: bool


FAMILIES: dict[str, Family] = {
    "blip-2": Family(Blip2Config, Blip2ForConditionalGeneration, Blip2Senses, qformer_reads_text=False),
    "instructblip": Family(
        InstructBlipConfig, InstructBlipForConditionalGeneration, InstructBlipSenses, qformer_reads_text=True
    ),
}
"""By `model_type` of the configuration."""


def _queries(config: Any) -> nn.Parameter:
    return nn.Parameter(torch.zeros(1, config.num_query_tokens, config.qformer_config.hidden_size))
