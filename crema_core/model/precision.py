"""The dtype policy, in one place.

Adapters, Q-Former and fusion stay in float32: they are small and trained. Precision concerns the frozen vision encoder
and language model. T5's feed-forward outputs exceed 65504, so fp16 turns a FlanT5 into NaN (see the FlanT5-XL reports
of the transformers project); it is refused rather than worked around.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal, get_args

import torch
from torch import nn

from crema_core.errors import PrecisionError, did_you_mean

Precision = Literal["fp32", "bf16"]
DTYPES: dict[str, torch.dtype] = {"fp32": torch.float32, "bf16": torch.bfloat16}


def frozen_dtype(precision: str) -> torch.dtype:
    """Return the dtype of the frozen parts.

    Raises:
        PrecisionError: for fp16, with the reason, and for unknown names.
    """
    if precision in ("fp16", "float16", "half"):
        raise PrecisionError(
            "fp16 overflows in FlanT5 feed-forward layers (values above 65504), so training would become NaN. "
            'Use precision="bf16", or "fp32" where the GPU has no bf16.'
        )
    if precision not in DTYPES:
        raise PrecisionError(
            f"{precision!r} is not a precision. Accepted: {', '.join(get_args(Precision))}."
            f'{did_you_mean(precision, DTYPES)} Use precision="bf16" on a GPU and "fp32" on a CPU.'
        )
    return DTYPES[precision]


def keep_full(*modules: nn.Module) -> None:
    """Bring modules between the frozen parts and the adapters to float32, whatever the checkpoint was loaded in."""
    for module in modules:
        module.float()


def computed_in(device: torch.device) -> str:
    """Return the number format that matrix products are computed in at this point: "as stored", or autocast's."""
    if not torch.is_autocast_enabled(device.type):
        return "as stored"
    return str(torch.get_autocast_dtype(device.type)).removeprefix("torch.")


@contextmanager
def computing_in(precision: Precision, device: torch.device) -> Iterator[None]:
    """Compute what is inside as training in this precision does: bf16 where that is safe, or as the weights are."""
    with torch.autocast(device.type, dtype=torch.bfloat16, enabled=precision == "bf16"):
        yield
