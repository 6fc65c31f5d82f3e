"""The dtype policy, in one place.

Adapters, Q-Former and fusion are kept in float32: they are small and trained. Precision concerns the frozen vision
encoder and language model, and in bf16 what everything is computed in; what a checkpoint's configuration gives
(`torch_dtype`) is overridden by it. fp32 and bf16 have the same range and are always accepted. fp16 ends at 65504:

- T5's feed-forward outputs exceed that, so a FlanT5 turns into NaN (reports of the transformers project); refused.
- A checkpoint that says it was trained in bfloat16 (Llama 3, Qwen, Gemma) may exceed it; refused.
- Others (OPT, Llama 1 and 2, Vicuna, Mistral: released for fp16) are accepted to answer, not to train: gradients cross
  the frozen language model on their way to the adapters, and below 6e-8 they become zero.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Literal, get_args

import torch
from torch import nn
from transformers import PreTrainedConfig

from crema_core.errors import PrecisionError, did_you_mean

Precision = Literal["fp32", "bf16", "fp16"]
DTYPES: dict[str, torch.dtype] = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
_T5_LIKE = frozenset({"t5", "mt5", "umt5", "longt5", "switch_transformers"})


def has_bf16_units() -> bool:
    """Return whether this machine's CPU has matrix units for bf16 (AMX)."""
    return bool(torch.cpu.get_capabilities().get("amx_bf16", False))


def no_numbers(where: str) -> PrecisionError:
    """Return the error about a language model whose scores are NaN; `where` says of what."""
    return PrecisionError(
        f"The scores of the language model {where} are no numbers (NaN), so there is no answer. That comes of weights "
        "that are not finite, or of values outside the number format. Build or load the model again, with "
        'precision="bf16" or "fp32" if it runs in fp16.'
    )


def frozen_dtype(precision: str, language: PreTrainedConfig) -> torch.dtype:
    """Return the dtype of the frozen parts.

    Args:
        precision: name of a precision.
        language: configuration of the language model.

    Raises:
        PrecisionError: for fp16 where the language model does not hold it, with the reason, and for unknown names.
    """
    check_precision(precision)
    if precision == "fp16" and language.model_type in _T5_LIKE:
        raise PrecisionError(
            "fp16 overflows in FlanT5 feed-forward layers (values above 65504), so training would become NaN. "
            'Use precision="bf16", or "fp32" where the GPU has no bf16.'
        )
    if precision == "fp16" and language.dtype == torch.bfloat16:
        raise PrecisionError(
            f"This {language.model_type} language model was trained in bfloat16, whose values may lie outside fp16 "
            '(above 65504) and would become infinite. Use precision="bf16", or "fp32" where the GPU has no bf16.'
        )
    return DTYPES[precision]


def check_precision(precision: str) -> None:
    """Refuse an unknown name.

    Raises:
        PrecisionError: for anything but the name of a precision.
    """
    if precision not in DTYPES:
        raise PrecisionError(
            f"{precision!r} is not a precision. Accepted: {', '.join(get_args(Precision))}."
            f'{did_you_mean(precision, DTYPES)} Use precision="bf16" on a GPU, and on this CPU {_of_this_cpu()}.'
        )


def _of_this_cpu() -> str:
    if has_bf16_units():
        return '"bf16" as well, for which it has matrix units'
    return '"fp32", as it has no matrix units for bf16'


def require_trainable(precision: str) -> None:
    """Raise unless adapters can be trained through frozen parts of this precision.

    Raises:
        PrecisionError: for fp16.
    """
    if precision == "fp16":
        raise PrecisionError(
            "This model's frozen parts are in fp16, in which gradients below 6e-8 become zero on their way to the "
            'adapters. fp16 is for answering. Build the model with precision="bf16", or "fp32" where the GPU has no '
            "bf16."
        )


def keep_full(*modules: nn.Module | None) -> None:
    """Bring modules between the frozen parts and the adapters to float32, whatever the checkpoint was loaded in."""
    for module in modules:
        if module is not None:
            module.float()


def computed_in(device: torch.device) -> str:
    """Return the number format that matrix products are computed in at this point: "as stored", or autocast's.

    Where torch multiplies float32 matrices less exactly than it could, that is said too.
    """
    if not torch.is_autocast_enabled(device.type):
        exactness = torch.get_float32_matmul_precision()
        return "as stored" if exactness == "highest" else f"as stored, float32 products {exactness}"
    return str(torch.get_autocast_dtype(device.type)).removeprefix("torch.")


@contextmanager
def float32_products(exactness: str | None) -> Iterator[None]:
    """Multiply float32 matrices inside with this exactness, as `torch.set_float32_matmul_precision` takes it.

    Args:
        exactness: `"highest"`, `"high"` or `"medium"`; None: as torch is set.
    """
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision(exactness or before)
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)


_CHOSEN: ContextVar[bool] = ContextVar("chosen", default=False)
"""Whether what runs now computes in a precision that somebody chose, as training does."""


@contextmanager
def chosen_precision() -> Iterator[None]:
    """Let what is inside compute as its caller arranges, whatever the model was built in."""
    before = _CHOSEN.set(True)
    try:
        yield
    finally:
        _CHOSEN.reset(before)


@contextmanager
def computing_in(precision: Precision, device: torch.device) -> Iterator[None]:
    """Compute what is inside as training in this precision does: bf16 where that is safe, or as the weights are."""
    with chosen_precision(), torch.autocast(device.type, dtype=torch.bfloat16, enabled=precision == "bf16"):
        yield


@contextmanager
def computing_as_built(precision: str, device: torch.device) -> Iterator[None]:
    """Compute what is inside as a model of this precision answers: under autocast where it was built in bf16.

    Adapters and Q-Former, whose weights are float32, then compute in bf16 too, as in training, and kept features are
    those of training. Inside of `computing_in`, of training or of an autocast it is the caller's choice.
    """
    if precision != "bf16" or _CHOSEN.get() or torch.is_autocast_enabled(device.type):
        yield
        return
    with torch.autocast(device.type, dtype=torch.bfloat16):
        yield
