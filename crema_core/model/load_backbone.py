"""Loading a backbone: a folder, a hub id, the one shipped in the package, or a shape without weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedConfig, PreTrainedTokenizerBase

from crema_core.errors import CheckpointError, did_you_mean
from crema_core.model.backbone import ALONE, TINY, Backbone
from crema_core.model.checkpoint import (
    image_statistics,
    own_template,
    processor_chat_template,
    read_config,
    read_model,
    read_tokenizer,
)
from crema_core.model.families import FAMILIES, QFORMER_TOKENIZER
from crema_core.model.precision import frozen_dtype
from crema_core.model.qformer import QFormer
from crema_core.model.quantization import quantization_config
from crema_core.model.seat import LanguageSource, Seat, load_seat, read_seat_config
from crema_core.model.shapes import shape_config, shape_model, shape_names, shape_seat, shape_tokenizer
from crema_core.model.shipped import TINY_BACKBONES, tiny_backbone_path
from crema_core.model.video_families import VIDEO_FAMILIES, chosen_side
from crema_core.model.video_language import VideoBackbone


def load_backbone(
    source: str | Path,
    *,
    revision: str | None = None,
    language_model: str | Path | None = None,
    language_revision: str | None = None,
    precision: str = "fp32",
    frozen_dropout: bool = False,
    quantization: str | None = None,
    image_size: int | None = None,
) -> Backbone:
    """Load a checkpoint in BLIP-2 or InstructBLIP format, or of a video language model.

    Args:
        source: folder, hub id, "crema-tiny" or "crema-tiny-video" for those shipped in the package, or a name of
            `crema_core.model.shapes`, for counting without weights.
        revision: hub revision (commit, tag or branch).
        language_model: folder or hub id of another language model for the seat of the checkpoint's own, whose weights
            are then not loaded; with a shape as `source`, its configuration is enough.
        language_revision: hub revision of that one.
        precision: "fp32", "bf16" or, where the language model holds it, "fp16"; of vision encoder and language model.
            What the checkpoint's configuration says about its dtype is not looked at.
        frozen_dropout: see `Backbone`.
        quantization: "8bit" or "4bit" language model, see `crema_core.model.quantization`; None: as it is.
        image_size: side in pixels of the square pictures, for a backbone that takes any (Qwen-VL); None: its default.

    Raises:
        CheckpointError: when nothing loads from `source`, or it is no backbone.
        OptionsError: for an image size the backbone cannot take.
        PrecisionError: for a precision the language model cannot hold.
    """
    seat_config = None if language_model is None else read_seat_config(str(language_model), language_revision)
    language = None if language_model is None else LanguageSource(str(language_model), language_revision)
    if str(source) in shape_names() and not Path(source).exists():
        return _shape_backbone(str(source), language, seat_config, precision=precision, image_size=image_size)
    place = str(shipped_backbone(str(source)) or source)
    config = read_config(
        place,
        revision,
        what="backbone",
        accepted=f"a folder or hub id in BLIP-2 or InstructBLIP format, or '{TINY}'",
        try_next="Try backbone='Salesforce/blip2-flan-t5-xl' where the hub is reachable." + _near_shape(place),
    )
    text_config: PreTrainedConfig = getattr(config, "text_config", config)
    dtype = frozen_dtype(precision, seat_config or text_config)
    quantized = None if quantization is None else quantization_config(quantization, dtype=dtype)
    if config.model_type in VIDEO_FAMILIES:
        _refuse_seat(str(source), config.model_type, language)
        settings = {"precision": precision, "frozen_dropout": frozen_dropout}
        settings |= chosen_side(str(source), config, image_size)
        return _video_backbone(str(source), place, revision, config, dtype=dtype, quantized=quantized, **settings)
    family = FAMILIES.get(config.model_type)
    if family is None:
        raise CheckpointError(
            f"'{source}' is a '{config.model_type}' model. The backbone must be in BLIP-2 or InstructBLIP format "
            f"(model_type {' or '.join(map(repr, FAMILIES))}), or for fusion='pave' a video language model "
            f"({', '.join(map(repr, VIDEO_FAMILIES))}). Try backbone='Salesforce/blip2-flan-t5-xl', or '{TINY}' to see "
            "everything work."
        )
    chosen_side(str(source), config, image_size)
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
    reader = read_tokenizer(place, revision, subfolder=QFORMER_TOKENIZER) if family.qformer_reads_text else None
    return _assembled(
        model,
        seat,
        tokenizer=read_tokenizer(place, revision) if seat is None else seat.tokenizer,
        qformer_tokenizer=reader,
        source=str(source),
        revision=revision,
        image_mean=mean,
        image_std=std,
        precision=precision,
        frozen_dropout=frozen_dropout,
        template=own_template(place, revision) if seat is None else None,
    )


def load_language_backbone(
    language_model: str | Path,
    *,
    revision: str | None = None,
    precision: str = "fp32",
    frozen_dropout: bool = False,
    quantization: str | None = None,
) -> Backbone:
    """Load a language model alone, for strategies whose senses bring everything before it.

    Args:
        language_model: folder or hub id of a causal or encoder-decoder language model.
        revision: hub revision.
        precision: of its weights.
        frozen_dropout: see `Backbone`.
        quantization: see `load_backbone`.

    Raises:
        CheckpointError: when nothing loads.
        PrecisionError: for a precision the language model cannot hold.
    """
    source = LanguageSource(str(language_model), revision)
    config = read_seat_config(source.source, revision)
    dtype = frozen_dtype(precision, config)
    quantized = None if quantization is None else quantization_config(quantization, dtype=dtype)
    seat = load_seat(source, config, dtype=dtype, quantized=quantized)
    return Backbone(
        seat.model,
        seat.tokenizer,
        source=ALONE,
        language_source=source,
        precision=precision,
        frozen_dropout=frozen_dropout,
    )


def _video_backbone(
    source: str,
    place: str,
    revision: str | None,
    config: PreTrainedConfig,
    *,
    dtype: torch.dtype,
    quantized: Any,
    **settings: Any,
) -> VideoBackbone:
    family = VIDEO_FAMILIES[config.model_type]
    model = read_model(family.whole, place, revision, dtype=dtype, config=config, quantized=quantized)
    tokenizer = read_tokenizer(place, revision)
    own = processor_chat_template(place, revision)
    if own is not None:  # it knows where frames stand, which the language model's own template does not
        tokenizer.chat_template = own
    mean, std = image_statistics(place, revision)
    return family.make(
        model,
        tokenizer,
        source=source,
        revision=revision,
        image_mean=mean,
        image_std=std,
        template=own_template(place, revision),
        **settings,
    )


def _refuse_seat(source: str, kind: str, language: LanguageSource | None) -> None:
    if language is not None:
        raise CheckpointError(
            f"'{source}' is a video language model ('{kind}'), whose language model reads its own visual tokens, and "
            f"language_model='{language.source}' was to take its seat. Accepted: such a backbone as it is. Leave "
            "language_model out."
        )


def _assembled(
    model: Any,
    seat: Seat | None,
    *,
    tokenizer: PreTrainedTokenizerBase,
    qformer_tokenizer: PreTrainedTokenizerBase | None,
    **settings: Any,
) -> Backbone:
    """Take a BLIP-2 or InstructBLIP model apart, with another language model in the seat of its own or not."""
    return Backbone(
        seat.model if seat else model.language_model,
        tokenizer,
        vision_model=model.vision_model,
        qformer=QFormer(model.qformer, qformer_tokenizer),
        query_tokens=model.query_tokens,
        language_projection=None if seat else model.language_projection,
        language_source=seat.source if seat else None,
        **settings,
    )


def shipped_backbone(source: str) -> Path | None:
    """Return the folder of a backbone shipped in the package, or None where `source` is no name of one."""
    return tiny_backbone_path(source) if source in TINY_BACKBONES else None


def _shape_backbone(
    name: str, language: LanguageSource | None, seat_config: Any, *, precision: str, image_size: int | None
) -> Backbone:
    config = shape_config(name)
    side = chosen_side(name, config, image_size)
    dtype = frozen_dtype(precision, seat_config or config.text_config)
    if config.model_type in VIDEO_FAMILIES:
        _refuse_seat(name, config.model_type, language)
        family = VIDEO_FAMILIES[config.model_type]
        whole = shape_model(family.whole, config, dtype=dtype)
        return family.make(whole, shape_tokenizer(), source=name, precision=precision, shape_only=True, **side)
    kind, seat = FAMILIES[config.model_type], None
    if language is not None:
        seat = Seat(shape_seat(seat_config, dtype=dtype), shape_tokenizer(), language)
    return _assembled(
        shape_model(kind.whole if seat is None else kind.senses, config, dtype=dtype),
        seat,
        tokenizer=shape_tokenizer(),
        qformer_tokenizer=shape_tokenizer() if kind.qformer_reads_text else None,
        source=name,
        precision=precision,
        shape_only=True,
    )


def _near_shape(place: str) -> str:
    return did_you_mean(place, shape_names())
