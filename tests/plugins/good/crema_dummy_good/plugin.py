"""A light module that keeps every rule."""

from __future__ import annotations

from pydantic import Field

from crema_core.plugins.spec import InputSpec, ModalityOptions, ModalitySpec


class GoodOptions(ModalityOptions):
    """One option, described."""

    frames: int = Field(default=2, ge=1, description="rows taken from a recording")


SPEC = ModalitySpec(
    name="good",
    summary="A modality that keeps every rule.",
    factory="crema_dummy_good.modality:GoodModality",
    options=GoodOptions,
    test_options=(GoodOptions(),),
    inputs=(InputSpec(kind="array", description="(T, 3) float"),),
    encoder="own",
    feature_dim=8,
    prefix="Good: ",
)
