"""Comparisons of numbers that hold on every CPU.

Kernels of different processors add up in different orders, so that float32 results differ in their last bits, and where
large terms cancel in all of them. Two ways around it, the first wherever the subject allows it:

- compute in float64 (`double_precision`, `model.double()`): what rounds differently is then 1e-15 of the whole, and a
  golden float32 tensor lies at the same distance from it on every machine;
- scale the bound by the largest value of the case, not by the element that is compared (`assert_close_to_scale`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

# Of the scale, in units of the last place. Measured with ATEN_CPU_CAPABILITY=default and avx2, ONEDNN_MAX_CPU_ISA=SSE41
# and AVX2, MKL_CBWR=COMPATIBLE and sums in permuted order: at most a tenth of it. A missing term is 1e4 times as large.
ULPS = {torch.float16: 16, torch.bfloat16: 16, torch.float32: 64, torch.float64: 2**14}


class _Double(TorchFunctionMode):
    """Leaves float64 alone where model code asks for float32 (T5's norms, softmax, the loss)."""

    def __torch_function__(
        self, func: Callable[..., Any], types: Iterable[type], args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        if args and isinstance(args[0], Tensor) and args[0].dtype == torch.float64:
            if func is Tensor.float:
                return args[0]
            args = tuple(torch.float64 if one is torch.float32 else one for one in args)
            kwargs = {key: torch.float64 if one is torch.float32 else one for key, one in kwargs.items()}
        return func(*args, **kwargs)


@contextmanager
def double_precision() -> Iterator[None]:
    """Compute what is in float64 to the end in float64; modules and inputs are made double by the test."""
    with _Double():
        yield


def largest(*values: Tensor) -> float:
    """Return the largest absolute value, 0 of empty tensors."""
    return max((float(value.detach().abs().max()) for value in values if value.numel()), default=0.0)


def assert_close_to_scale(
    actual: Tensor, expected: Tensor, *, scale: float | None = None, ulps: float | None = None, name: str = ""
) -> None:
    """Compare with a bound that is a number of last places of the largest value of the case.

    Args:
        actual: what was computed.
        expected: of the same shape; its number format may differ, the coarser one counts.
        scale: largest absolute value that took part, such as the largest gradient of a whole case; of `expected`
            unless given.
        ulps: number of last places; unless given that of `ULPS`.
        name: what is compared, for the message.
    """
    assert actual.shape == expected.shape, f"{name}: shape {tuple(actual.shape)} against {tuple(expected.shape)}"
    coarser = max((actual.dtype, expected.dtype), key=lambda dtype: torch.finfo(dtype).eps)
    scale = largest(expected) if scale is None else scale
    limit = (ULPS[coarser] if ulps is None else ulps) * torch.finfo(coarser).eps * scale
    difference = largest(actual.detach().double() - expected.detach().double())
    assert difference <= limit, f"{name}: {difference:.3g} apart, {limit:.3g} is the bound at a scale of {scale:.3g}"
