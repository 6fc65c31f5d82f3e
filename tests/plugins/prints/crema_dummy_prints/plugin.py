"""Prints when it is imported, to the stream and to the file descriptor behind it."""

from __future__ import annotations

import os

from crema_core.plugins.spec import InputSpec, ModalityOptions, ModalitySpec

print("hello from the declaration")
os.write(1, b"hello from native code\n")

SPEC = ModalitySpec(
    name="chatty",
    summary="A modality.",
    factory="crema_dummy_prints.modality:ChattyModality",
    inputs=(InputSpec(kind="array", description="(T, 3) float"),),
    test_options=(ModalityOptions(),),
    encoder="own",
    feature_dim=8,
    prefix="chatty: ",
)
