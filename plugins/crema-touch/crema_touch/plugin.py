"""What the touch modality declares; imports no torch."""

from __future__ import annotations

from pydantic import Field, model_validator

from crema_core.plugins.spec import CLIP_SUFFIXES, PICTURE_SUFFIXES, InputSpec, ModalitySpec
from crema_core.video.options import VISION_ENCODER_ASSETS, SeeingOptions

AUTO = "auto"


class TouchOptions(SeeingOptions):
    """How tactile images are read, and with what."""

    num_frames: int = Field(default=1, ge=1, description="frames taken from a recording; 1: touch without time")
    background: str | None = Field(
        default=None,
        description="path of an image without contact, subtracted as (x - background) / 2 + 0.5; auto: the median of "
        "the first background_frames frames of each recording; None: images as they are",
    )
    background_frames: int = Field(
        default=5, ge=1, description="auto: frames at the beginning that are without contact"
    )
    only_contact: bool = Field(
        default=False,
        description="take frames where something is touched: those that differ most from the background; needs one",
    )

    @model_validator(mode="after")
    def _contact_needs_a_background(self) -> TouchOptions:
        if self.only_contact and self.background is None:
            raise ValueError("only_contact needs background, a path or 'auto', to compare with")
        return self


SPEC = ModalitySpec(
    name="touch",
    summary="GelSight-like tactile images through the backbone's frozen vision encoder.",
    factory="crema_touch.modality:TouchModality",
    options=TouchOptions,
    test_options=(TouchOptions(), TouchOptions(num_frames=2), TouchOptions(background=AUTO, background_frames=1)),
    inputs=(
        InputSpec(kind="image", suffixes=PICTURE_SUFFIXES, description="8-bit RGB; one, a folder, or a list of them"),
        InputSpec(kind="clip", suffixes=CLIP_SUFFIXES, description="recording of a tactile sensor"),
        InputSpec(kind="folder", description="Touch and Go: a folder with gelsight_frame/ or gelsight.mp4 inside"),
        InputSpec(kind="array", description="(H, W, 3), (3, H, W) or with T before, uint8 0..255 or float 0..1"),
    ),
    encoder="vision",
    assets=VISION_ENCODER_ASSETS,
    prefix="Touch: ",
)
