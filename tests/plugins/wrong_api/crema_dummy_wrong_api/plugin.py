"""Specs of an older major, a newer minor and a newer major version of the contract."""

from __future__ import annotations

from crema_core.plugins.spec import ModalitySpec

ANCIENT = ModalitySpec(
    name="ancient",
    api_version="0.9",
    summary="A modality.",
    factory="crema_dummy_good.modality:GoodModality",
    encoder="own",
    feature_dim=8,
    prefix="ancient: ",
)

NEWER = ModalitySpec(
    name="newer",
    api_version="1.9",
    summary="A modality.",
    factory="crema_dummy_good.modality:GoodModality",
    encoder="own",
    feature_dim=8,
    prefix="newer: ",
)

FUTURE = ModalitySpec(
    name="future",
    api_version="2.0",
    summary="A modality.",
    factory="crema_dummy_good.modality:GoodModality",
    encoder="own",
    feature_dim=8,
    prefix="future: ",
)
