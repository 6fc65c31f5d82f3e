"""What a patch computes again in its backward pass instead of keeping it.

Before a linear map stands an elementwise function or a norm whose result only the gradient of the map's weight needs;
kept, these results are a third of what a patch holds between its passes. Computing them a second time costs a pass over
a tensor. `torch.utils.checkpoint` would repeat the product of matrices too, or load the compiler of torch (130 MB) to
leave it out.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks


def map_again(values: Tensor, function: Callable[[Tensor], Tensor], linear: nn.Module) -> Tensor:
    """Return `linear(function(values))`, of which `function(values)` is computed again for the backward pass.

    The results and gradients are those of the plain way to the bit. What the map saves in another dtype than it was
    given (under autocast, after a norm) is kept.

    Args:
        values: of any shape.
        function: cheap, and without randomness.
        linear: the map.
    """
    inner = function(values)
    if not inner.requires_grad:
        plain: Tensor = linear(inner)
        return plain
    place, given = inner.untyped_storage().data_ptr(), values.detach()

    def pack(saved: Tensor) -> Tensor | torch.Size:
        return saved.shape if saved.untyped_storage().data_ptr() == place and saved.is_contiguous() else saved

    def unpack(packed: Tensor | torch.Size) -> Tensor:
        if isinstance(packed, Tensor):
            return packed
        with torch.no_grad():
            return function(given).reshape(packed)

    with saved_tensors_hooks(pack, unpack):
        result: Tensor = linear(inner)
        return result


class LeanAdapter(nn.Sequential):
    """Two linear maps with a GELU between them, whose result is not kept.

    Args:
        input_dim: D.
        inner_dim: width between the maps.
        output_dim: L.
    """

    def __init__(self, input_dim: int, inner_dim: int, output_dim: int) -> None:
        super().__init__(nn.Linear(input_dim, inner_dim), nn.GELU(), nn.Linear(inner_dim, output_dim))

    def forward(self, values: Tensor) -> Tensor:
        """Map `(..., D)` to `(..., L)`."""
        first, activation, second = self
        return map_again(first(values), activation, second)
