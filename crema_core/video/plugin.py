"""What the video sense declares; imports no torch."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from crema_core.plugins.spec import Capabilities, InputSpec, ModalitySpec
from crema_core.video.towers.options import TOWER_ASSETS, EncoderOptions, SeeingOptions


class VideoOptions(SeeingOptions):
    """Which frames are looked at, and with what."""

    num_frames: int = Field(
        default=4,
        ge=1,
        description="frames per clip, the middle ones of equal segments; with fps the most; towers that see clips take "
        "as many as they were trained with",
    )
    fps: float | None = Field(
        default=None, gt=0, description="frames per second instead, for clip files; None: num_frames of every clip"
    )
    start_s: float | None = Field(default=None, ge=0, description="where to start looking, in seconds; None: at 0")
    end_s: float | None = Field(default=None, gt=0, description="where to stop, in seconds; None: at the end")

    encoders: tuple[EncoderOptions, ...] | None = Field(
        default=None,
        description="several encoders that see the same clip (MERV), each a name or a mapping with name, weights, "
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
    def _one_way_to_name_encoders(self) -> VideoOptions:
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

    @model_validator(mode="after")
    def _part_is_not_empty(self) -> VideoOptions:
        if self.end_s is not None and self.end_s <= (self.start_s or 0.0):
            raise ValueError(f"end_s ({self.end_s:g}) must be after start_s ({self.start_s or 0:g})")
        return self


SPEC = ModalitySpec(
    name="video",
    released_name="rgb",
    summary="RGB frames through the backbone's frozen vision encoder.",
    factory="crema_core.video.modality:VideoModality",
    options=VideoOptions,
    test_options=(VideoOptions(num_frames=2),),
    inputs=(
        InputSpec(kind="clip", suffixes=(".mp4", ".mov", ".mkv", ".webm", ".avi", ".gif"), description="RGB video"),
        InputSpec(kind="image", suffixes=(".png", ".jpg"), description="8-bit RGB; one, a folder, or a list of them"),
        InputSpec(kind="array", description="(T, H, W, 3) or (T, 3, H, W), uint8 0..255 or float 0..1"),
    ),
    encoder="vision",
    assets=TOWER_ASSETS,
    prefix="Frame {index}: ",
    per_frame=True,
    capabilities=Capabilities(default_major=True, timestamps=True),
)
