"""What the modality declares; imports no torch."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from crema_core import ModalityOptions, ModalitySpec
from crema_core.plugins.spec import Capabilities, InputSpec, MMQASpec


class ImuOptions(ModalityOptions):
    """How recordings are cut and encoded."""

    window_s: float = Field(default=0.5, gt=0, description="length of a window in seconds")
    max_windows: int = Field(default=16, ge=1, description="windows kept; longer recordings are cut at the end")
    encoder: Literal["random", "learned"] = Field(
        default="random", description="fixed random features, or a small network that is trained with the adapter"
    )


SPEC = ModalitySpec(
    name="imu",
    summary="Accelerometer and gyroscope recordings, as windows with time stamps.",
    factory="crema_imu.modality:ImuModality",
    options=ImuOptions,
    test_options=(ImuOptions(encoder="learned"), ImuOptions(window_s=0.25, max_windows=3)),
    inputs=(InputSpec(kind="recording", suffixes=(".csv",), description="t_s, ax..az in m/s², gx..gz in rad/s"),),
    encoder="own",
    trainable=True,  # unless the option says otherwise, see ImuModality.trainable
    feature_dim=64,
    mmqa=MMQASpec(lora_rank=8),
    prefix="Motion: ",
    capabilities=Capabilities(timestamps=True),
)
