"""What every step of a clip has in common: work on real steps alone, and average over them.

Shape letters: B samples, T steps, S steps after pooling, M real steps of all samples.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor


def on_real_steps(values_BT: Tensor, mask_BT: Tensor, work: Callable[[Tensor], Tensor]) -> Tensor:
    """Do the same for every real step; padded steps cost nothing and are zero afterwards.

    Args:
        values_BT: `(B, T, ...)`.
        mask_BT: `(B, T)` bool.
        work: `(M, ...)` -> `(M, ...)`.

    Returns:
        `(B, T, ...)`.
    """
    if bool(mask_BT.all()):
        whole: Tensor = work(values_BT.flatten(0, 1)).unflatten(0, mask_BT.shape)
        return whole
    done = work(values_BT[mask_BT])
    return done.new_zeros(*mask_BT.shape, *done.shape[1:]).index_put(mask_BT.nonzero(as_tuple=True), done)


def mean_of_steps(values_BT: Tensor, mask_BT: Tensor) -> Tensor:
    """Average `(B, T, ...)` over real steps: `(B, ...)`, zero for a sample without any."""
    weights_BT = mask_BT / mask_BT.sum(1, keepdim=True).clamp(min=1)
    return torch.einsum("bt,bt...->b...", weights_BT.to(values_BT.dtype), values_BT)


def pool_steps(values_BT: Tensor, mask_BT: Tensor, num_steps: int) -> tuple[Tensor, Tensor]:
    """Average each sample's real steps into `num_steps` bins.

    Bin i of S over n steps covers steps floor(i n / S) to ceil((i + 1) n / S), as torch's adaptive pooling does: bins
    overlap where n is no multiple of S, and steps repeat where n is smaller.

    Args:
        values_BT: `(B, T, ...)`, real steps first.
        mask_BT: `(B, T)` bool.
        num_steps: S.

    Returns:
        `(B, S, ...)`, zero for a sample without real steps, and the mask `(B, S)`.
    """
    present_B = mask_BT.any(1)
    mask_BS = present_B[:, None].expand(-1, num_steps)
    if num_steps == mask_BT.shape[1] and bool(mask_BT.all()):
        return values_BT, mask_BS
    count_B1 = mask_BT.sum(1)[:, None, None]
    bin_S1 = torch.arange(num_steps, device=mask_BT.device)[:, None]
    step_BT = torch.arange(mask_BT.shape[1], device=mask_BT.device)
    low = bin_S1 * count_B1 // num_steps
    high = -(-(bin_S1 + 1) * count_B1 // num_steps)
    inside_BST = (step_BT >= low) & (step_BT < high)
    weights_BST = inside_BST / inside_BST.sum(2, keepdim=True).clamp(min=1)
    return torch.einsum("bst,bt...->bs...", weights_BST.to(values_BT.dtype), values_BT), mask_BS
