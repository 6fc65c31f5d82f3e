"""The video language models that can be backbones, by the name transformers gives their kind."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from transformers import (
    LlavaOnevisionForConditionalGeneration,
    PreTrainedConfig,
    PreTrainedModel,
    Qwen2_5_VLForConditionalGeneration,
    Qwen2VLForConditionalGeneration,
    VideoLlavaForConditionalGeneration,
)

from crema_core.errors import OptionsError
from crema_core.model.llava import LlavaBackbone
from crema_core.model.qwen_vl import QwenBackbone, square_side
from crema_core.model.video_language import VideoBackbone


@dataclass(frozen=True)
class VideoFamily:
    """One kind of video language model.

    Attributes:
        whole: the model as published.
        make: takes it apart; called with the model, the tokenizer and settings of `Backbone`.
        side: of the square pictures where it can be chosen, from the tower's configuration and what was asked for.
    """

    whole: type[PreTrainedModel]
    make: Callable[..., VideoBackbone]
    side: Callable[[Any, int | None], int] | None = None


VIDEO_FAMILIES: dict[str, VideoFamily] = {
    "llava_onevision": VideoFamily(
        LlavaOnevisionForConditionalGeneration, partial(LlavaBackbone, tower="vision_tower", pooled=True)
    ),
    "video_llava": VideoFamily(
        VideoLlavaForConditionalGeneration, partial(LlavaBackbone, tower="video_tower", keeps_class=True)
    ),
    "qwen2_vl": VideoFamily(Qwen2VLForConditionalGeneration, QwenBackbone, side=square_side),
    "qwen2_5_vl": VideoFamily(Qwen2_5_VLForConditionalGeneration, QwenBackbone, side=square_side),
}
"""By `model_type` of the configuration."""


def chosen_side(source: str, config: PreTrainedConfig, wanted: int | None) -> dict[str, int]:
    """Return the setting `image_size` of a backbone that takes pictures of any size, nothing for the others.

    Args:
        source: folder or hub id, for the message.
        config: of the whole checkpoint.
        wanted: side in pixels; None: the backbone's own.

    Raises:
        OptionsError: for a side the backbone cannot take.
    """
    family, vision = VIDEO_FAMILIES.get(config.model_type), config.vision_config
    if family is not None and family.side is not None:
        return {"image_size": family.side(vision, wanted)}
    if wanted not in (None, vision.image_size):
        raise OptionsError(
            f"image_size={wanted} was given, and '{source}' was trained on pictures of {vision.image_size} pixels and "
            "takes no others. Accepted: another size for Qwen-VL backbones alone. Leave image_size out."
        )
    return {}
