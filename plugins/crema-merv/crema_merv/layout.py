"""How the features of several encoders of one clip lie in one flat tensor, and how they come out again.

Encoders differ in steps, grid and width, so their features fit no common shape; flat, they travel, are kept and are
batched like those of any other modality.

Shape letters: B samples, T steps of one encoder, N patches of a step, D feature width, P numbers of all encoders.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from crema_core.modality import FeaturePart


def pack(features: Sequence[Tensor]) -> Tensor:
    """Lay the features of all encoders one after another.

    Args:
        features: of every encoder `(B, T, N, D)`, each with its own T, N and D.

    Returns:
        `(B, 1, 1, P)`, one static step with one token.

    Example:
        >>> pack([torch.zeros(2, 4, 9, 8), torch.zeros(2, 3, 4, 16)]).shape
        torch.Size([2, 1, 1, 480])
    """
    return torch.cat([values.flatten(1) for values in features], dim=1)[:, None, None]


def unpack(values: Tensor, layout: Sequence[FeaturePart]) -> list[Tensor]:
    """Undo `pack`; views, nothing is copied.

    Args:
        values: `(B, 1, 1, P)`.
        layout: of the encoders, in the order they were packed in.

    Returns:
        Of every encoder `(B, T, N, D)`.
    """
    flat_BP = values.flatten(1)
    sizes = [encoder.numel for encoder in layout]
    assert flat_BP.shape[1] == sum(sizes), f"{flat_BP.shape[1]} numbers, the layout has {sum(sizes)}"
    parts = flat_BP.split(sizes, dim=1)
    return [part.unflatten(1, encoder.shape) for part, encoder in zip(parts, layout, strict=True)]
