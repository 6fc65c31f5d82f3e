"""Imports a package that nobody has."""

from __future__ import annotations

import crema_dummy_nowhere

from crema_core.plugins.spec import ModalitySpec

SPEC = ModalitySpec(
    name="broken",
    summary="A modality.",
    factory="crema_dummy_broken_import.modality:BrokenModality",
    encoder="own",
    feature_dim=8,
    prefix="broken: ",
)
