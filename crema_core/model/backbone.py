"""The frozen backbone: vision encoder, Q-Former, language model and tokenizer of a BLIP-2 or InstructBLIP checkpoint.

Everything comes from transformers; a folder and a hub id load by the same call. Another language model can take the
seat of the checkpoint's own. Frozen means frozen: eval mode is kept whatever `train()` asks, and no parameter is
trainable.

Shape letters: M images, N tokens per image, E vision width.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from crema_core.errors import CheckpointError, did_you_mean
from crema_core.model.checkpoint import (
    CLIP_MEAN,
    CLIP_STD,
    RGB,
    image_statistics,
    own_template,
    read_config,
    read_model,
    read_tokenizer,
)
from crema_core.model.families import FAMILIES, QFORMER_TOKENIZER
from crema_core.model.fingerprint import fingerprint
from crema_core.model.kernels import fuse_activations
from crema_core.model.precision import frozen_dtype, keep_full
from crema_core.model.qformer import QFormer
from crema_core.model.quantization import quantization_config
from crema_core.model.seat import LanguageSource, Seat, load_seat, read_seat_config
from crema_core.model.shapes import shape_config, shape_model, shape_names, shape_seat, shape_tokenizer
from crema_core.model.trainable import freeze
from crema_core.model.turns import Turns, own_turns, seat_turns

TINY = "crema-tiny"
LANGUAGE_PREFIX = "language_model."


class Backbone(nn.Module):
    """Frozen parts of a model.

    Args:
        model: the transformers model, whole, or without language model when `seat` is given.
        tokenizer: of the language model.
        source: folder or hub id it came from, recorded in checkpoints.
        revision: hub revision, or None.
        seat: another language model instead of the checkpoint's own; the checkpoint's projection is of no use then.
        qformer_tokenizer: of a Q-Former that reads the question; None for one that does not.
        image_mean, image_std: normalisation of RGB in 0..1.
        precision: what vision encoder and language model were loaded in, recorded in checkpoints.
        frozen_dropout: train with the frozen parts' own dropout, as the released code does (0.1); off by default.
        shape_only: the weights are not there, only their shapes (see `crema_core.model.shapes`).
        template: wording the language model was trained with, as settings of `PromptTemplate`; what `build` is given
            goes before it.
    """

    def __init__(
        self,
        model: Any,
        tokenizer: PreTrainedTokenizerBase,
        *,
        source: str,
        revision: str | None = None,
        seat: Seat | None = None,
        qformer_tokenizer: PreTrainedTokenizerBase | None = None,
        image_mean: RGB = CLIP_MEAN,
        image_std: RGB = CLIP_STD,
        precision: str = "fp32",
        frozen_dropout: bool = False,
        shape_only: bool = False,
        template: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        self.shape_only, self.template = shape_only, dict(template or {})
        self.vision_model = model.vision_model
        self.qformer = QFormer(model.qformer, qformer_tokenizer)
        self.query_tokens: nn.Parameter = model.query_tokens
        self.language_projection: nn.Linear | None = None if seat else model.language_projection
        self.language_model: PreTrainedModel = seat.model if seat else model.language_model
        fuse_activations(self.language_model)
        self.language_source: LanguageSource | None = seat.source if seat else None
        self.tokenizer = tokenizer
        self.source, self.revision = source, revision
        self.image_mean, self.image_std = image_mean, image_std
        self.precision, self.frozen_dropout = precision, frozen_dropout
        if not shape_only:
            keep_full(self.qformer, self.language_projection)
            self.query_tokens.data = self.query_tokens.data.float()
        freeze(self)
        self.eval()
        self._identity: str | None = None
        self._language_identity: str | None = None

    @property
    def image_size(self) -> int:
        """Side in pixels of the square images the vision encoder takes."""
        return int(self.vision_model.config.image_size)

    @property
    def vision_dim(self) -> int:
        """Width E of the vision features."""
        return int(self.vision_model.config.hidden_size)

    @property
    def language_dim(self) -> int:
        """Width L of the language model's input embeddings."""
        embedding: Any = self.language_model.get_input_embeddings()
        return int(embedding.embedding_dim)

    def turns(self, *, chat: bool) -> Turns:
        """Return what stands around senses, question and answer, see `crema_core.model.turns`."""
        if self.language_source is None:
            return own_turns(self.language_model, self.tokenizer)
        return seat_turns(self.language_model, self.tokenizer, chat=chat)

    @torch.no_grad()
    def encode_images(self, pixels_MCHW: Tensor) -> Tensor:
        """Encode images.

        Args:
            pixels_MCHW: `(M, 3, H, W)` normalised pixels.

        Returns:
            `(M, N, E)`: the last hidden states *before* the final LayerNorm, which every sense has as its own.
        """
        embedded = self.vision_model.embeddings(pixels_MCHW)
        tokens: Tensor = self.vision_model.encoder(inputs_embeds=embedded).last_hidden_state
        return tokens

    def train(self, mode: bool = True) -> Backbone:
        """Stay in eval mode, unless the released code's frozen dropout was asked for (vision stays in eval there)."""
        super().train(mode and self.frozen_dropout)
        self.vision_model.eval()
        return self

    def fingerprint(self) -> str:
        """Return a sha256 over names, shapes and exact values of all frozen weights."""
        return fingerprint(self)

    def require_weights(self) -> None:
        """Raise unless the weights are really there.

        Raises:
            CheckpointError: for a backbone of shapes alone.
        """
        if self.shape_only:
            raise CheckpointError(
                f"'{self.source}' is a backbone of shapes alone, for counting. Answers, training and saving need "
                f"weights. Use backbone='Salesforce/{self.source}' where the hub is reachable, or '{TINY}'."
            )

    def identity(self) -> str:
        """Return a sha256 that is the same whatever precision the checkpoint was loaded in; computed once.

        A language model that took the seat has an identity of its own and is left out here.
        """
        self.require_weights()
        if self._identity is None:
            skip = None if self.language_source is None else LANGUAGE_PREFIX
            self._identity = fingerprint(self, dtype=torch.bfloat16, skip=skip)
        return self._identity

    def language_identity(self) -> str | None:
        """Return the same of the language model that took the seat; None for the backbone's own."""
        if self.language_source is None:
            return None
        self.require_weights()
        if self._language_identity is None:
            self._language_identity = fingerprint(self.language_model, dtype=torch.bfloat16)
        return self._language_identity


def load_backbone(
    source: str | Path,
    *,
    revision: str | None = None,
    language_model: str | Path | None = None,
    language_revision: str | None = None,
    precision: str = "fp32",
    frozen_dropout: bool = False,
    quantization: str | None = None,
) -> Backbone:
    """Load a checkpoint in BLIP-2 or InstructBLIP format.

    Args:
        source: folder, hub id, "crema-tiny" for the one shipped in the package, or a name of
            `crema_core.model.shapes`, for counting without weights.
        revision: hub revision (commit, tag or branch).
        language_model: folder or hub id of another language model for the seat of the checkpoint's own, whose weights
            are then not loaded; with a shape as `source`, its configuration is enough.
        language_revision: hub revision of that one.
        precision: "fp32", "bf16" or, where the language model holds it, "fp16"; of vision encoder and language model.
            What the checkpoint's configuration says about its dtype is not looked at.
        frozen_dropout: see `Backbone`.
        quantization: "8bit" or "4bit" language model, see `crema_core.model.quantization`; None: as it is.

    Raises:
        CheckpointError: when nothing loads from `source`, or it is no backbone.
        PrecisionError: for a precision the language model cannot hold.
    """
    seat_config = None if language_model is None else read_seat_config(str(language_model), language_revision)
    language = None if language_model is None else LanguageSource(str(language_model), language_revision)
    if str(source) in shape_names() and not Path(source).exists():
        return _shape_backbone(str(source), language, seat_config, precision=precision)
    place = str(tiny_backbone() if str(source) == TINY else source)
    config = read_config(
        place,
        revision,
        what="backbone",
        accepted=f"a folder or hub id in BLIP-2 or InstructBLIP format, or '{TINY}'",
        try_next="Try backbone='Salesforce/blip2-flan-t5-xl' where the hub is reachable." + _near_shape(place),
    )
    family = FAMILIES.get(config.model_type)
    if family is None:
        raise CheckpointError(
            f"'{source}' is a '{config.model_type}' model. The backbone must be in BLIP-2 or InstructBLIP format "
            f"(model_type {' or '.join(map(repr, FAMILIES))}). Try backbone='Salesforce/blip2-flan-t5-xl', or "
            f"'{TINY}' to see everything work."
        )
    dtype = frozen_dtype(precision, seat_config or config.text_config)
    quantized = None if quantization is None else quantization_config(quantization, dtype=dtype)
    seat = None
    if language is not None and seat_config is not None:
        seat = load_seat(language, seat_config, dtype=dtype, quantized=quantized)
        quantized = None
    model = read_model(
        family.whole if seat is None else family.senses,
        place,
        revision,
        dtype=dtype,
        config=config,
        quantized=quantized,
    )
    mean, std = image_statistics(place, revision)
    return Backbone(
        model,
        read_tokenizer(place, revision) if seat is None else seat.tokenizer,
        source=str(source),
        revision=revision,
        seat=seat,
        qformer_tokenizer=(
            read_tokenizer(place, revision, subfolder=QFORMER_TOKENIZER) if family.qformer_reads_text else None
        ),
        image_mean=mean,
        image_std=std,
        precision=precision,
        frozen_dropout=frozen_dropout,
        template=own_template(place, revision) if seat is None else None,
    )


def tiny_backbone() -> Path:
    """Return the folder of the backbone shipped in the package."""
    from crema_core.world import tiny_backbone_path

    return tiny_backbone_path()


def _shape_backbone(name: str, language: LanguageSource | None, seat_config: Any, *, precision: str) -> Backbone:
    config, family = shape_config(name)
    dtype = frozen_dtype(precision, seat_config or config.text_config)
    seat = None
    if language is not None:
        seat = Seat(shape_seat(seat_config, dtype=dtype), shape_tokenizer(), language)
    return Backbone(
        shape_model(family.whole if seat is None else family.senses, config, dtype=dtype),
        shape_tokenizer(),
        source=name,
        seat=seat,
        qformer_tokenizer=shape_tokenizer() if family.qformer_reads_text else None,
        precision=precision,
        shape_only=True,
    )


def _near_shape(place: str) -> str:
    return did_you_mean(place, shape_names())
