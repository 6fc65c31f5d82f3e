"""Imports torch, which a light module must not."""

from __future__ import annotations

import torch

from crema_core.plugins.spec import ModalitySpec

SPEC = ModalitySpec(
    name="heavy",
    summary="A modality with a slow declaration.",
    factory="crema_dummy_good.modality:GoodModality",
    encoder="own",
    feature_dim=8,
    prefix="heavy: ",
)
