"""Declares 'twin' (b)."""

from __future__ import annotations

from crema_core.plugins.spec import ModalitySpec

SPEC = ModalitySpec(
    name="twin",
    summary="The twin of package b.",
    factory="crema_dummy_good.modality:GoodModality",
    encoder="own",
    feature_dim=8,
    prefix="twin: ",
)
