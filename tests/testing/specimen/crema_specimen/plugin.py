"""What the modality declares; imports no torch."""

from __future__ import annotations

from pydantic import Field

from crema_core.plugins.spec import Capabilities, InputSpec, ModalityOptions, ModalitySpec


class SpecimenOptions(ModalityOptions):
    """How recordings are read."""

    rows: int = Field(default=4, ge=1, description="rows taken from a recording")
    gain: float = Field(default=1.0, description="factor of every feature")


SPEC = ModalitySpec(
    name="specimen",
    summary="Rows of three numbers, through a fixed projection.",
    factory="crema_specimen.modality:SpecimenModality",
    options=SpecimenOptions,
    test_options=(SpecimenOptions(gain=2.0),),
    inputs=(InputSpec(kind="array", suffixes=(".pt",), description="(T, 3) float"),),
    encoder="own",
    feature_dim=8,
    prefix="Specimen: ",
    capabilities=Capabilities(timestamps=True),
)
