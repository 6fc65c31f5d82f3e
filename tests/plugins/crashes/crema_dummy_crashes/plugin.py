"""Declares a modality whose class's module ends the process."""

from __future__ import annotations

from crema_core.plugins.spec import InputSpec, ModalityOptions, ModalitySpec

SPEC = ModalitySpec(
    name="late",
    summary="A modality.",
    factory="crema_dummy_crashes.vanishes:LateModality",
    inputs=(InputSpec(kind="array", description="(T, 3) float"),),
    test_options=(ModalityOptions(),),
    encoder="own",
    feature_dim=8,
    prefix="late: ",
)
