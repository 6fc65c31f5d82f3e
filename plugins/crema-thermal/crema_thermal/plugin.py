"""What the thermal modality declares; imports no torch."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from crema_core.plugins.spec import CLIP_SUFFIXES, PICTURE_SUFFIXES, InputSpec, ModalitySpec
from crema_core.video.options import VISION_ENCODER_ASSETS, SeeingOptions


class ThermalOptions(SeeingOptions):
    """How temperatures are read and coloured, and with what they are seen."""

    num_frames: int = Field(default=4, ge=1, description="frames taken from a sequence; a single image stays single")
    counts_per_kelvin: float = Field(default=100.0, gt=0, description="what 16-bit images count per kelvin")
    unit: Literal["kelvin", "celsius"] = Field(default="kelvin", description="what float arrays and tiffs hold")
    flir: Literal["temperature", "picture"] = Field(
        default="temperature",
        description="radiometric jpegs of FLIR or DJI: the temperatures stored inside (FLIR's, needs flyr), or the "
        "finished picture",
    )
    coldest_c: float = Field(default=10.0, description="degrees Celsius shown black; fixed for a whole data set")
    hottest_c: float = Field(default=45.0, description="degrees Celsius shown brightest; fixed for a whole data set")
    window: Literal["fixed", "per_clip"] = Field(
        default="fixed",
        description="fixed: coldest_c..hottest_c; per_clip: 1st to 99th percentile of each source, which hides "
        "absolute temperature",
    )
    colormap: Literal["inferno", "grey"] = Field(default="inferno", description="colours of the heatmap")

    @model_validator(mode="after")
    def _window_is_not_empty(self) -> ThermalOptions:
        if self.hottest_c <= self.coldest_c:
            raise ValueError(f"hottest_c ({self.hottest_c:g}) must be above coldest_c ({self.coldest_c:g})")
        return self


SPEC = ModalitySpec(
    name="thermal",
    summary="Temperatures as a heatmap through the backbone's frozen vision encoder.",
    factory="crema_thermal.modality:ThermalModality",
    options=ThermalOptions,
    test_options=(ThermalOptions(num_frames=2), ThermalOptions(num_frames=2, window="per_clip", colormap="grey")),
    inputs=(
        InputSpec(kind="image", suffixes=(".png", ".tif", ".tiff"), description="16 bit: kelvin times 100 (option)"),
        InputSpec(kind="image", suffixes=PICTURE_SUFFIXES, description="8 bit: a finished heatmap, kept as it is"),
        InputSpec(kind="image", suffixes=(".jpg",), description="FLIR radiometric jpeg; needs flyr"),
        InputSpec(kind="clip", suffixes=CLIP_SUFFIXES, description="8-bit heatmap video, kept as it is"),
        InputSpec(kind="array", suffixes=(".npz", ".npy"), description="`thermal` (H, W) or (T, H, W), float kelvin"),
    ),
    encoder="vision",
    assets=VISION_ENCODER_ASSETS,
    prefix="Thermal: ",
)
