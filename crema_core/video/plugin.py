"""What the video modality declares; imports no torch."""

from __future__ import annotations

from typing import Any

from pydantic import Field, model_validator

from crema_core.plugins.spec import CLIP_SUFFIXES, PICTURE_SUFFIXES, Capabilities, InputSpec, ModalitySpec
from crema_core.video.options import VISION_ENCODER_ASSETS, SeeingOptions

_MOVED: dict[str, Any] = {"encoders": None, "encoder_frames": "middle", "encoders_at_once": True}
"""Options that a strategy's package adds now. Models saved before record them with these values, which mean nothing."""


class VideoOptions(SeeingOptions):
    """Which frames are looked at, and with what."""

    num_frames: int = Field(
        default=4,
        ge=1,
        description="frames per clip, the middle ones of equal segments; with fps the most; encoders of clips take "
        "as many as they were trained with; left out, backbones made for clips choose (VideoChat2: 16)",
    )
    fps: float | None = Field(
        default=None, gt=0, description="frames per second instead, for clip files; None: num_frames of every clip"
    )
    start_s: float | None = Field(default=None, ge=0, description="where to start looking, in seconds; None: at 0")
    end_s: float | None = Field(default=None, gt=0, description="where to stop, in seconds; None: at the end")

    @model_validator(mode="before")
    @classmethod
    def _without_what_moved(cls, values: Any) -> Any:
        if not isinstance(values, dict):
            return values
        unset = {key for key, nothing in _MOVED.items() if key not in cls.model_fields and values.get(key) == nothing}
        return {key: value for key, value in values.items() if key not in unset}

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
        InputSpec(kind="clip", suffixes=CLIP_SUFFIXES, description="RGB video"),
        InputSpec(kind="image", suffixes=PICTURE_SUFFIXES, description="8-bit RGB; one, a folder, or a list of them"),
        InputSpec(kind="array", description="(T, H, W, 3) or (T, 3, H, W), uint8 0..255 or float 0..1"),
    ),
    encoder="vision",
    assets=VISION_ENCODER_ASSETS,
    prefix="Frame {index}: ",
    per_frame=True,
    capabilities=Capabilities(default_major=True, timestamps=True),
)
