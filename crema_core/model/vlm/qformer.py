"""The Q-Former that further modalities of a vision-language model pass: a BLIP-2 checkpoint's, or a small new one.

CREMA's is the pretrained one of BLIP-2, frozen, with a LoRA for each modality. A vision-language model has none; a new
one is trained with the first modality that passes it, and the later ones add their LoRA to it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import nn
from transformers import Blip2QFormerConfig, Blip2QFormerModel, PreTrainedConfig

from crema_core.errors import CheckpointError
from crema_core.model.backbone_family import NamedShape
from crema_core.model.checkpoint import read_config, read_weights
from crema_core.model.families import Blip2Trunk
from crema_core.model.load_backbone import checkpoint_place
from crema_core.model.qformer import QFormer
from crema_core.model.shapes import shape_model
from crema_core.plugins import registry
from crema_core.plugins.spec import parse_settings

HEAD_WIDTH = 64


class NewQFormer(BaseModel):
    """Sizes of a new Q-Former."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    layers: int = Field(default=2, ge=1, description="each with self-attention, cross-attention and feed-forward")
    width: int = Field(default=512, ge=HEAD_WIDTH, multiple_of=HEAD_WIDTH, description="of queries and features")
    num_queries: int = Field(default=32, ge=1, description="tokens of a step")
    seed: int = Field(default=0, description="of its weights")


def new_qformer(sizes: NewQFormer) -> tuple[QFormer, nn.Parameter]:
    """Return a Q-Former to be trained, and its queries `(1, Q, H)`."""
    config = Blip2QFormerConfig(
        vocab_size=1,
        hidden_size=sizes.width,
        num_hidden_layers=sizes.layers,
        num_attention_heads=sizes.width // HEAD_WIDTH,
        intermediate_size=4 * sizes.width,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
        encoder_hidden_size=sizes.width,
        cross_attention_frequency=1,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(sizes.seed)
        model = Blip2QFormerModel(config)
        queries = nn.Parameter(torch.empty(1, sizes.num_queries, sizes.width).normal_(std=config.initializer_range))
    return QFormer(model, fresh=True), queries


def read_qformer(place: str) -> tuple[QFormer, nn.Parameter]:
    """Return the Q-Former of a BLIP-2 checkpoint and its queries; nothing else of it is read.

    Args:
        place: folder, hub id, or name of a checkpoint that a package ships.

    Raises:
        CheckpointError: when there is none, or its weights are incomplete.
    """
    source, place = place, str(checkpoint_place(place))
    config = _config_of(place)
    _require_blip2(config, source)
    read = read_weights(Blip2QFormerTrunk, place, revision=None, dtype=torch.float32, config=config)
    if read.absent:
        raise CheckpointError(
            f"The Q-Former of '{place}' is incomplete: {len(read.absent)} tensors are not in the files, first: "
            f"{', '.join(read.absent[:3])}. Accepted: a complete checkpoint in BLIP-2 format. Download it again."
        )
    model: Any = read.model
    return QFormer(model.qformer), model.query_tokens


def shape_qformer_of(asked: str | Mapping[str, Any] | None) -> tuple[QFormer, nn.Parameter]:
    """Return the same without weights, where a checkpoint's was asked for.

    Args:
        asked: as of `qformer_of`; also the name of a shape, such as "blip2-flan-t5-xl", or its hub id.

    Raises:
        CheckpointError: when nothing of that name has a Q-Former of BLIP-2.
        OptionsError: for unknown sizes.
    """
    if not isinstance(asked, str):
        return qformer_of(asked)
    name = asked.rpartition("/")[2]
    shape = registry.load("backbone", name) if name in registry.usable_names("backbone") else None
    config = shape.config() if isinstance(shape, NamedShape) and asked in (name, shape.weights) else _config_of(asked)
    _require_blip2(config, asked)
    model: Any = shape_model(Blip2QFormerTrunk, config, dtype=torch.float32)
    return QFormer(model.qformer), model.query_tokens


class Blip2QFormerTrunk(Blip2Trunk):
    """BLIP-2's Q-Former and queries, without its vision encoder and language model."""

    _keys_to_ignore_on_load_unexpected: set[str] | list[str] | None = [  # noqa: RUF012
        r"^language_model\.",
        r"^language_projection\.",
        r"^vision_model\.",
    ]

    def __init__(self, config: Any) -> None:
        super().__init__(config)
        del self.vision_model


def _config_of(place: str) -> PreTrainedConfig:
    return read_config(
        place,
        None,
        what="Q-Former",
        accepted="a folder or hub id in BLIP-2 format, or sizes of a new one",
        try_next="Use qformer='Salesforce/blip2-flan-t5-xl', or qformer={'layers': 2, 'width': 512}.",
    )


def _require_blip2(config: PreTrainedConfig, place: str) -> None:
    if config.model_type != "blip-2":
        raise CheckpointError(
            f"qformer='{place}' is a '{config.model_type}' model. Accepted: a folder or hub id in BLIP-2 format, or "
            "sizes of a new one. Use qformer='Salesforce/blip2-flan-t5-xl', or qformer={'layers': 2, 'width': 512}."
        )


def qformer_of(asked: str | Mapping[str, Any] | None) -> tuple[QFormer, nn.Parameter]:
    """Return the Q-Former that was asked for; None: a new one of the default sizes.

    Raises:
        CheckpointError: as `read_qformer`.
        OptionsError: for unknown sizes.
    """
    if isinstance(asked, str):
        return read_qformer(asked)
    return new_qformer(parse_settings(NewQFormer, dict(asked or {}), title="qformer"))
