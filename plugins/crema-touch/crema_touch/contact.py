"""Where something is touched: frames that differ from the gel at rest."""

from __future__ import annotations

import torch
from torch import Tensor

SPREADS = 4.0
"""How many robust spreads above the quietest half counts as contact."""


def median_of(frames_TCHW: Tensor) -> Tensor:
    """Return the median picture `(1, 3, H, W)` float 0..1 of frames, uint8 0..255 or float 0..1."""
    values = frames_TCHW.float() / 255 if frames_TCHW.dtype == torch.uint8 else frames_TCHW.float()
    return values.median(dim=0, keepdim=True).values


def frames_in_contact(frames_TCHW: Tensor, background_1CHW: Tensor) -> list[int]:
    """Return the frames where the gel is pressed, in order; at least one, the most pressed.

    A frame counts when its mean difference to the background is clearly above that of the quietest half of all frames
    (median and median deviation of that half, so that long contact does not raise the bar).

    Args:
        frames_TCHW: `(T, 3, H, W)` in 0..1.
        background_1CHW: `(1, 3, H, W)` in 0..1.
    """
    difference_T = (frames_TCHW - background_1CHW).abs().mean(dim=(1, 2, 3))
    quiet = difference_T.sort().values[: max(len(difference_T) // 2, 1)]
    middle = quiet.median()
    spread = (quiet - middle).abs().median().clamp(min=1e-3)
    found = (difference_T > middle + SPREADS * spread).nonzero().flatten().tolist()
    return found or [int(difference_T.argmax())]
