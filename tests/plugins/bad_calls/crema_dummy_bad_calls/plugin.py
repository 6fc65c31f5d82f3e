"""What it declares."""

from __future__ import annotations

from pydantic import Field

from crema_core.plugins.spec import InputSpec, MMQASpec, ModalityOptions, ModalitySpec


class BadOptions(ModalityOptions):
    """How it fails."""

    fault: str = Field(default="", description="name of the fault; empty: none")


SPEC = ModalitySpec(
    name="bad_calls",
    summary="A number in a text file; negative ones fail.",
    factory="crema_dummy_bad_calls.modality:BadCalls",
    options=BadOptions,
    test_options=(BadOptions(),),
    inputs=(InputSpec(kind="number", suffixes=(".txt",), description="one number"),),
    encoder="own",
    feature_dim=8,
    mmqa=MMQASpec(lora_rank=2),
    prefix="Number: ",
)
