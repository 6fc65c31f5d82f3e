"""What the three geometric modalities declare; imports no torch."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from crema_core.plugins.spec import PICTURE_SUFFIXES, InputSpec, ModalityOptions, ModalitySpec


class DepthOptions(ModalityOptions):
    """How distances are read and coloured."""

    num_frames: int = Field(default=4, ge=1, description="maps taken from a sequence; a single map stays single")
    counts_per_metre: float = Field(default=1000.0, gt=0, description="what 16-bit images count per metre")
    metres_per_unit: float = Field(
        default=1.0, gt=0, description="metres in one unit of floats, 0.001 for millimetres; whole numbers: counts"
    )
    unknown_value: float | None = Field(
        default=None, description="a stored number that means unknown, as 65535; 0 and not finite always do"
    )
    near_m: float = Field(default=0.5, gt=0, description="metres shown as nearest; fixed for a whole data set")
    far_m: float = Field(default=10.0, gt=0, description="metres shown as farthest; fixed for a whole data set")
    window: Literal["fixed", "per_clip"] = Field(
        default="fixed", description="fixed: near_m..far_m; per_clip: 2nd to 98th percentile of each source"
    )
    scale: Literal["log", "inverse", "linear"] = Field(
        default="log", description="what is proportional to the colour's position: log, inverse or plain distance"
    )
    colormap: Literal["turbo", "inferno", "grey"] = Field(
        default="turbo", description="colours, near is the upper end (turbo: red near, blue far); grey as in the paper"
    )

    @model_validator(mode="after")
    def _window_is_not_empty(self) -> DepthOptions:
        if self.far_m <= self.near_m:
            raise ValueError(f"far_m ({self.far_m:g}) must be above near_m ({self.near_m:g})")
        return self


class FlowOptions(ModalityOptions):
    """How motion is read and coloured."""

    num_frames: int = Field(default=4, ge=1, description="fields taken from a sequence; a single field stays single")
    max_px: float | None = Field(
        default=8.0, gt=0, description="pixels per frame shown in full colour; None: the fastest of each source"
    )


class NormalsOptions(ModalityOptions):
    """How surface directions are read."""

    num_frames: int = Field(default=4, ge=1, description="maps taken from a sequence; a single map stays single")


DEPTH = ModalitySpec(
    name="depth",
    released_name="depth",
    summary="Distance maps as colours through the backbone's frozen vision encoder.",
    factory="crema_geometry.modality:DepthModality",
    options=DepthOptions,
    test_options=(DepthOptions(num_frames=2), DepthOptions(num_frames=2, window="per_clip", scale="inverse")),
    inputs=(
        InputSpec(kind="image", suffixes=PICTURE_SUFFIXES, description="16 bit: millimetres (option), 0: unknown"),
        InputSpec(kind="array", suffixes=(".npz", ".npy"), description="`depth` (H, W) or (T, H, W), float metres"),
        InputSpec(kind="image", suffixes=(".exr",), description="channel Z, V, Y or R in metres; needs OpenEXR"),
        InputSpec(kind="array", suffixes=(".pfm",), description="portable float map of one number per pixel, metres"),
    ),
    encoder="vision",
    prefix="Depth Map {index}: ",
    per_frame=True,
)

FLOW = ModalitySpec(
    name="flow",
    released_name="flow",
    summary="Optical flow as colours through the backbone's frozen vision encoder.",
    factory="crema_geometry.modality:FlowModality",
    options=FlowOptions,
    test_options=(FlowOptions(num_frames=2), FlowOptions(num_frames=2, max_px=None)),
    inputs=(
        InputSpec(
            kind="array", suffixes=(".npz", ".npy"), description="`flow` (T, H, W, 2): pixels right, pixels down"
        ),
        InputSpec(kind="field", suffixes=(".flo",), description="Middlebury format; one, a folder, or a list of them"),
        InputSpec(kind="field", suffixes=(".pfm",), description="SceneFlow: right, down, and one that is not used"),
        InputSpec(kind="image", suffixes=(".png",), description="KITTI format, 16-bit RGB: (value - 2^15) / 64, valid"),
    ),
    encoder="vision",
    prefix="Optical Flow {index}: ",
    per_frame=True,
)

NORMALS = ModalitySpec(
    name="normals",
    released_name="norm",
    summary="Surface directions as colours through the backbone's frozen vision encoder.",
    factory="crema_geometry.modality:NormalsModality",
    options=NormalsOptions,
    test_options=(NormalsOptions(num_frames=2),),
    inputs=(
        InputSpec(
            kind="array", suffixes=(".npz", ".npy"), description="`normals` (T, H, W, 3): right, up, to the viewer"
        ),
        InputSpec(kind="image", suffixes=PICTURE_SUFFIXES, description="8 bit: (n + 1) / 2 as colour"),
        InputSpec(kind="image", suffixes=(".exr",), description="channels X, Y, Z or R, G, B; needs OpenEXR"),
        InputSpec(kind="array", suffixes=(".pfm",), description="portable float map of three numbers per pixel"),
    ),
    encoder="vision",
    prefix="Surface Normals {index}: ",
    per_frame=True,
)
