"""What the modalities declare; imports no torch."""

from __future__ import annotations

from pydantic import Field

from crema_core.plugins.spec import CLIP_SUFFIXES, PICTURE_SUFFIXES, Capabilities, InputSpec, ModalitySpec
from crema_core.video.options import VISION_ENCODER_ASSETS, SeeingOptions


class DenseVideoOptions(SeeingOptions):
    """How densely frames are looked at, and how little is kept of each."""

    fps: float = Field(default=2.0, gt=0, description="frames per second of clip files")
    num_frames: int = Field(default=240, ge=1, description="most frames of a source")
    pool: int | None = Field(
        default=2, ge=1, description="rows and columns a frame's tokens are averaged to; None: all tokens"
    )


class ViewsOptions(SeeingOptions):
    """How many frames of every view are looked at, and how much is kept of each."""

    num_frames: int = Field(default=4, ge=1, description="frames of every view, the middle ones of equal segments")
    pool: int | None = Field(
        default=14, ge=1, description="rows and columns a frame's tokens are averaged to; None: all tokens"
    )


DENSE = ModalitySpec(
    name="dense_video",
    summary="The same video at a higher frame rate, few tokens a frame.",
    factory="crema_video.modality:DenseVideoModality",
    options=DenseVideoOptions,
    test_options=(DenseVideoOptions(num_frames=6), DenseVideoOptions(num_frames=4, pool=None)),
    inputs=(
        InputSpec(kind="clip", suffixes=CLIP_SUFFIXES, description="RGB video"),
        InputSpec(kind="image", suffixes=PICTURE_SUFFIXES, description="8-bit RGB; one, a folder, or a list of them"),
        InputSpec(kind="array", description="(T, H, W, 3) or (T, 3, H, W), uint8 0..255 or float 0..1"),
    ),
    encoder="vision",
    assets=VISION_ENCODER_ASSETS,
    prefix="Video: ",
    capabilities=Capabilities(timestamps=True),
)

VIEWS = ModalitySpec(
    name="exo_views",
    summary="Other cameras on the same scene, the frames of one instant together.",
    factory="crema_video.views:ViewsModality",
    options=ViewsOptions,
    test_options=(ViewsOptions(num_frames=2, pool=2), ViewsOptions(num_frames=3, pool=None)),
    inputs=(
        InputSpec(kind="clip", suffixes=CLIP_SUFFIXES, description="RGB video; one, or a list with one per camera"),
        InputSpec(kind="image", suffixes=PICTURE_SUFFIXES, description="8-bit RGB; one, or a list with one per camera"),
        InputSpec(kind="array", description="a list of (T, H, W, 3) or (T, 3, H, W), uint8 0..255 or float 0..1"),
    ),
    encoder="vision",
    assets=VISION_ENCODER_ASSETS,
    prefix="Views: ",
    capabilities=Capabilities(timestamps=True),
)
