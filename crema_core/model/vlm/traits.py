"""What differs from family to family of vision-language models, as data: `families.yaml`, by model type.

What a family does like most of them is not written down. A package that adds a family gives `Traits` of its own to
`crema_core.model.vlm.family.VlmFamily`.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ConfigDict, Field

FILE = Path(__file__).parent / "families.yaml"


class Traits(BaseModel):
    """How a family departs from the rest; the defaults are what most families do."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    placeholders: tuple[str, ...] = Field(
        default=("image_token_id", "video_token_id"),
        description="attributes of the configuration, dotted, with the ids that visual tokens take the place of",
    )
    sound: tuple[str, ...] = Field(
        default=("audio_token_id",), description="attributes with the ids that tokens of sound take the place of"
    )
    clips: bool | None = Field(
        default=None,
        description="whether the processor takes clips; None: where it has a processor of videos. Else a clip is "
        "written as pictures, each with its time before it",
    )
    frame: str = Field(
        default="Frame {index} ({seconds:.1f} s): ", description="text before a picture that is a frame of a clip"
    )
    picture_settings: dict[str, Any] = Field(default={}, description="more arguments of the processor, for pictures")
    clip_settings: dict[str, Any] = Field(default={}, description="more arguments of the processor, for clips")
    clip_rate: bool = Field(
        default=False,
        description="whether the processor takes frames per second and sizes of clips from each call alone",
    )
    kept: tuple[str, ...] = Field(
        default=("image_grid_thw", "video_grid_thw", "second_per_grid_ts", "video_second_per_grid"),
        description="arguments of the forward pass, beside ids and what is given per token, that it counts positions "
        "from; all others it reads pixels with",
    )
    answer_kinds: dict[str, int] = Field(
        default={}, description="by argument given per token, its value at the tokens of an answer; 0 where not named"
    )
    first_layer: bool = Field(
        default=False,
        description="whether visual features meet the embeddings inside the decoder, so that they are seen at its "
        "first layer only",
    )
    two_way: tuple[str, ...] = Field(
        default=(),
        description="classes of attention that would look back alone where they must look both ways: their is_causal "
        "is switched off",
    )
    projector: str = Field(
        default="",
        description="dotted name of the module between vision encoder and language model whose inputs, or the means of "
        "as many of them as become one, are the tokens before it",
    )
    closing: int = Field(default=0, description="tokens at the end of a clip that belong to none of its frames")
    gap: str = Field(
        default="",
        description="what the processor writes between a picture and a word, where the template has no blank",
    )
    begins: bool = Field(
        default=False, description="whether a prompt begins with the begin token although the tokenizer writes none"
    )
    bare: bool = Field(
        default=False, description="whether of what the processor writes for a picture only the placeholders are taken"
    )
    pictures_always: bool = Field(default=False, description="whether the processor refuses text alone")
    plain: tuple[str, str] = Field(
        default=("", "\n"),
        description="where there is no chat template: text between pictures and question, and after the question",
    )


@cache
def tried() -> Mapping[str, Traits]:
    """Return the traits of the model types that were compared with transformers' own forward pass and generation."""
    found: dict[str, dict[str, Any] | None] = yaml.safe_load(FILE.read_text(encoding="utf-8"))
    return {model_type: Traits.model_validate(own or {}) for model_type, own in found.items()}
