"""What the touch sense declares; imports no torch."""

from __future__ import annotations

from pydantic import Field

from crema_core.plugins.spec import InputSpec, ModalityOptions, ModalitySpec


class TouchOptions(ModalityOptions):
    """How tactile images are read."""

    num_frames: int = Field(default=1, ge=1, description="frames taken from a recording; 1: touch without time")
    background: str | None = Field(
        default=None,
        description="path of an image without contact, subtracted as (x - background) / 2 + 0.5; None: images as they "
        "are",
    )


SPEC = ModalitySpec(
    name="touch",
    summary="GelSight-like tactile images through the backbone's frozen vision encoder.",
    factory="crema_touch.modality:TouchModality",
    options=TouchOptions,
    test_options=(TouchOptions(), TouchOptions(num_frames=2)),
    inputs=(
        InputSpec(kind="image", suffixes=(".png", ".jpg"), description="8-bit RGB; one, a folder, or a list of them"),
        InputSpec(kind="clip", suffixes=(".mp4", ".avi", ".mkv"), description="recording of a tactile sensor"),
        InputSpec(kind="array", description="(H, W, 3), (3, H, W) or with T before, uint8 0..255 or float 0..1"),
    ),
    encoder="vision",
    prefix="Touch: ",
)
