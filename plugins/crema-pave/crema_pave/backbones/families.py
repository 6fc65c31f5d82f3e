"""The video language models that can be backbones, by the name transformers gives their kind."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from transformers import (
    LlavaOnevisionForConditionalGeneration,
    PreTrainedConfig,
    PreTrainedModel,
    Qwen2_5_VLForConditionalGeneration,
    Qwen2VLForConditionalGeneration,
    VideoLlavaForConditionalGeneration,
)

from crema_core.errors import CheckpointError
from crema_core.model.backbone_family import BackboneFamily, BackboneRequest, NamedShape
from crema_core.model.checkpoint import (
    find_file,
    image_statistics,
    own_template,
    read_json,
    read_model,
    read_tokenizer,
)
from crema_core.model.shapes import shape_model, shape_tokenizer
from crema_pave.backbones.llava import LlavaBackbone
from crema_pave.backbones.qwen_vl import QwenBackbone, square_side
from crema_pave.backbones.video_language import VideoBackbone

SHAPES = Path(__file__).parent / "shapes"


@dataclass(frozen=True)
class VideoFamily(BackboneFamily):
    """One kind of video language model.

    Attributes:
        whole: the model as published.
        make: takes it apart; called with the model, the tokenizer and settings of `Backbone`.
        side: of the square pictures where it can be chosen, from the vision encoder's configuration and what was asked
            for.
    """

    whole: type[PreTrainedModel]
    make: Callable[..., VideoBackbone]
    side: Callable[[Any, int | None], int] | None = None

    def load(self, config: PreTrainedConfig, request: BackboneRequest) -> VideoBackbone:
        """Load a checkpoint; its language model stays its own."""
        _refuse_language_model(config, request)
        side, place, revision = self._chosen_side(config, request), request.place, request.settings.revision
        dtype, quantized = request.dtype(config), request.quantized(config)
        model = read_model(self.whole, place, revision, dtype=dtype, config=config, quantized=quantized)
        tokenizer = read_tokenizer(place, revision)
        own = processor_chat_template(place, revision)
        if own is not None:  # it knows where frames stand, which the language model's own template does not
            tokenizer.chat_template = own
        mean, std = image_statistics(place, revision)
        return self.make(
            model,
            tokenizer,
            settings=request.settings,
            image_mean=mean,
            image_std=std,
            template=own_template(place, revision),
            **side,
        )

    def shape(self, config: PreTrainedConfig, request: BackboneRequest) -> VideoBackbone:
        """Return the backbone without weights."""
        _refuse_language_model(config, request)
        side = self._chosen_side(config, request)
        whole = shape_model(self.whole, config, dtype=request.dtype(config))
        return self.make(whole, shape_tokenizer(), settings=request.settings, shape_only=True, **side)

    def _chosen_side(self, config: PreTrainedConfig, request: BackboneRequest) -> dict[str, int]:
        """Return the setting `image_size` of a backbone that takes pictures of any size, nothing for the others."""
        if self.side is not None:
            return {"image_size": self.side(config.vision_config, request.settings.image_size)}
        request.refuse_image_size(config.vision_config.image_size)
        return {}


def processor_chat_template(place: str, revision: str | None) -> str | None:
    """Return the chat template a checkpoint's processor has of its own, None where it has none.

    Raises:
        CheckpointError: when the file that should hold it is not JSON.
    """
    file = find_file(place, "chat_template.jinja", revision=revision)
    if file is not None:
        return file.read_text(encoding="utf-8")
    settings = read_json(place, "chat_template.json", revision=revision)
    return None if settings is None else str(settings["chat_template"])


def _refuse_language_model(config: PreTrainedConfig, request: BackboneRequest) -> None:
    if request.settings.language_model is not None:
        raise CheckpointError(
            f"'{request.settings.source}' is a video language model ('{config.model_type}'), whose language model "
            f"reads its own visual tokens, and language_model='{request.settings.language_model}' was to replace "
            "it. Accepted: such a backbone as it is. Leave language_model out."
        )


LLAVA_ONEVISION = VideoFamily(
    LlavaOnevisionForConditionalGeneration, partial(LlavaBackbone, vision_encoder="vision_tower", pooled=True)
)
VIDEO_LLAVA = VideoFamily(
    VideoLlavaForConditionalGeneration, partial(LlavaBackbone, vision_encoder="video_tower", keeps_class=True)
)
QWEN2_VL = VideoFamily(Qwen2VLForConditionalGeneration, QwenBackbone, side=square_side)
QWEN2_5_VL = VideoFamily(Qwen2_5_VLForConditionalGeneration, QwenBackbone, side=square_side)

LLAVA_ONEVISION_05B = NamedShape(
    "llava-onevision-qwen2-0.5b",
    SHAPES / "llava-onevision-qwen2-0.5b.json",
    weights="llava-hf/llava-onevision-qwen2-0.5b-ov-hf",
)
LLAVA_ONEVISION_7B = NamedShape(
    "llava-onevision-qwen2-7b",
    SHAPES / "llava-onevision-qwen2-7b.json",
    weights="llava-hf/llava-onevision-qwen2-7b-ov-hf",
)
QWEN2_5_VL_3B = NamedShape("qwen2.5-vl-3b", SHAPES / "qwen2.5-vl-3b.json", weights="Qwen/Qwen2.5-VL-3B-Instruct")
