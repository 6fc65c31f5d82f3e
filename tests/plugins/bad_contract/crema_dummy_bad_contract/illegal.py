"""A spec whose name is not legal and that has an unknown field."""

from __future__ import annotations

from crema_core.plugins.spec import ModalitySpec

SPEC = ModalitySpec(
    name="Illegal-Name",
    summary="A modality.",
    factory="crema_dummy_good.modality:GoodModality",
    encoder="own",
    feature_dim=8,
    prefix="Illegal-Name: ",
    colour="red",
)
