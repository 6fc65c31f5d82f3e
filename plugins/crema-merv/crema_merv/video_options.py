"""The options with which the modality of video sees through several encoders; imports no torch."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from crema_core.plugins.spec import ModalitySpec
from crema_core.video.options import BACKBONE, SeeingOptions
from crema_core.video.plugin import VideoOptions

FACTORY = "crema_merv.video:EncodersVideo"


class EncoderOptions(BaseModel):
    """One of several encoders that see the same clip."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    name: str = Field(
        description="an encoder: clip, dinov2, dinov3, languagebind, siglip, timm, videomae, vivit, vjepa2, or one "
        "that another package adds"
    )
    weights: str | None = Field(default=None, description="hub id or folder of its weights; None: its usual hub id")
    revision: str | None = Field(default=None, description="commit, tag or branch of the hub id; None: the latest")
    layer: int = Field(default=-1, le=-1, description="whose output is taken, -1 the last, -2 the one before")
    num_frames: int | None = Field(
        default=None,
        ge=1,
        description="frames it sees; None: num_frames of the modality; encoders of clips see what they are made for",
    )
    image_size: int | None = Field(
        default=None, ge=1, description="side of its pictures, for dinov2, dinov3 and timm; None: as trained"
    )
    resize: Literal["trained", "squash"] = Field(
        default="trained",
        description="trained: as its own preprocessor, which may cut the longer side; squash: the whole picture",
    )

    @field_validator("name")
    @classmethod
    def _is_an_encoder(cls, name: str) -> str:
        if name == BACKBONE:
            raise ValueError(
                "the backbone's encoder is none of several; name a vision encoder such as clip, or leave it out"
            )
        return name


class EncodersVideoOptions(VideoOptions):
    """Which frames are looked at, and with which encoders."""

    encoders: tuple[EncoderOptions, ...] | None = Field(
        default=None,
        description="several encoders that see the same clip, each a name or a mapping with name, weights, "
        "layer, num_frames, image_size, resize; None: one, see encoder",
    )
    encoder_frames: Literal["middle", "released"] = Field(
        default="middle",
        description="frames of several encoders: middle ones of equal segments for each; released: evenly from the "
        "first to the last for the one with most, every so many of these for the others",
    )
    encoders_at_once: bool = Field(
        default=True, description="run several encoders side by side on a GPU; false: one after another"
    )

    @field_validator("encoders", mode="before")
    @classmethod
    def _names_are_encoders(cls, encoders: Any) -> Any:
        if isinstance(encoders, str):
            encoders = encoders.split("+")
        if isinstance(encoders, list | tuple):
            return tuple({"name": one} if isinstance(one, str) else one for one in encoders)
        return encoders

    @model_validator(mode="after")
    def _one_way_to_name_encoders(self) -> EncodersVideoOptions:
        if self.encoders is None:
            return self
        if not self.encoders:
            raise ValueError("encoders is empty; name one or more, or leave it out")
        single = [key for key, field in SeeingOptions.model_fields.items() if getattr(self, key) != field.default]
        if single:
            raise ValueError(f"encoders was given together with {', '.join(single)}; every encoder has its own")
        if self.fps is not None:
            raise ValueError(
                f"fps ({self.fps:g}) was given with encoders, which see fixed numbers of frames; leave it out"
            )
        return self


def with_encoders(spec: ModalitySpec) -> ModalitySpec:
    """Return the declaration of core's modality of video with the option of several encoders; others as they are."""
    if spec.options is not VideoOptions:
        return spec
    capabilities = spec.capabilities.model_copy(update={"several_encoders": "encoders"})
    test_options = tuple(EncodersVideoOptions(**own.model_dump()) for own in spec.test_options)
    changes = {"factory": FACTORY, "options": EncodersVideoOptions, "test_options": test_options}
    return spec.model_copy(update={**changes, "capabilities": capabilities})
