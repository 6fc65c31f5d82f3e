"""Two declarations that are fine by themselves."""

from __future__ import annotations

from crema_core.plugins.spec import InputSpec, ModalityOptions, ModalitySpec

LEAVES = ModalitySpec(
    name="leaves",
    summary="A modality.",
    factory="crema_dummy_factory_exits.leaves:LeavesModality",
    inputs=(InputSpec(kind="array", description="(T, 3) float"),),
    test_options=(ModalityOptions(),),
    encoder="own",
    feature_dim=8,
    prefix="leaves: ",
)

REFUSES = ModalitySpec(
    name="refuses",
    summary="A modality.",
    factory="crema_dummy_factory_exits.modality:RefusesModality",
    inputs=(InputSpec(kind="array", description="(T, 3) float"),),
    test_options=(ModalityOptions(),),
    encoder="own",
    feature_dim=8,
    prefix="refuses: ",
)
