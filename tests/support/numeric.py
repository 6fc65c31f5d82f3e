"""Comparisons of numbers that hold on every CPU.

Kernels of different processors add up in different orders, so that float32 results differ in their last bits, and where
large terms cancel in all of them. Two ways around it, the first wherever the subject allows it:

- compute in float64 (`double_precision`, `model.double()`): what rounds differently is then 1e-15 of the whole, and a
  golden float32 tensor lies at the same distance from it on every machine;
- scale the bound by the largest value of the case, not by the element that is compared (`assert_close_to_scale`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch import Tensor

# Of the scale, in units of the last place. Measured with ATEN_CPU_CAPABILITY=default and avx2, ONEDNN_MAX_CPU_ISA=SSE41
# and AVX2, MKL_CBWR=COMPATIBLE and sums in permuted order: at most a tenth of it. A missing term is 1e4 times as large.
ULPS = {torch.float16: 16, torch.bfloat16: 16, torch.float32: 64, torch.float64: 2**14}


MODEL_ULPS = 256
"""For logits and scores, which come through all layers of a small model."""


@contextmanager
def double_precision() -> Iterator[None]:
    """Compute what is in float64 to the end in float64; modules and inputs are made double by the test.

    Model code asks for float32 in places, T5's norms and the loss among them; inside, float64 stays what it is there.
    """
    to, to_float = Tensor.to, Tensor.float

    def keep(tensor: Tensor, *arguments: Any, **named: Any) -> Tensor:
        if tensor.dtype == torch.float64:
            arguments = tuple(torch.float64 if one is torch.float32 else one for one in arguments)
            named = {key: torch.float64 if one is torch.float32 else one for key, one in named.items()}
        return to(tensor, *arguments, **named)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Tensor, "to", keep)
        patch.setattr(Tensor, "float", lambda tensor: tensor if tensor.dtype == torch.float64 else to_float(tensor))
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


def assert_same_steps(one: Mapping[str, Tensor], two: Mapping[str, Tensor], *, rate: float) -> None:
    """Compare the weights of two float32 runs of Adam that added up the same gradients in another order.

    Adam divides a gradient by its own size: where one is all rounding, such as that of a bias before a softmax, equal
    runs part by whole steps. Such weights are few. Runs that had other gradients part nearly everywhere.
    """
    assert one.keys() == two.keys()
    difference = torch.cat([(one[key] - two[key]).abs().flatten() for key in one])
    assert float(difference.median()) < 1e-3 * rate
    assert float((difference > 0.1 * rate).double().mean()) < 0.05
