"""Run an encoder on real windows only."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor


def encode_real(encode: Callable[[Tensor], Tensor], inputs_BT: Tensor, lengths_BT: Tensor) -> Tensor:
    """Encode the windows whose length is above 0; the others become zeros.

    Args:
        encode: `(K, ...)` windows -> `(K, N, D)`.
        inputs_BT: `(B, T, ...)`.
        lengths_BT: `(B, T)`.

    Returns:
        `(B, T, N, D)`.
    """
    real = lengths_BT.flatten() > 0
    some_KND = encode(inputs_BT.flatten(0, 1)[real])
    values = some_KND.new_zeros(real.numel(), *some_KND.shape[1:])
    values = values.index_put((real.nonzero().squeeze(1),), some_KND)
    windows: Tensor = values.unflatten(0, tuple(lengths_BT.shape))
    return windows
