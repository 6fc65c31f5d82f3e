"""Positions of a prompt whose language model turns by time, row and column instead of by one count (Qwen-VL).

Text counts on by one on all three axes. The tokens of a clip start together where the text before them ended: their
row and column is their place in the frame, their time grows from step to step. The text behind continues after the
larger of rows and columns, however long the clip is (Qwen2-VL, arXiv 2409.12191, section 2.1). Qwen2-VL counts time in
steps, Qwen2.5-VL in seconds times a rate (arXiv 2502.13923, section 2.1.2), rounded down; seconds of neighbouring steps
are taken to be equal, as the released processor does.

Shape letters: B samples, T steps, K tokens of a step, P tokens of a part of the prompt, S prompt length.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from crema_core.tokens import Segment

_ROUNDING = 1e-3
"""Time stamps are float32: what is this little below a whole position is that position."""


@dataclass(frozen=True)
class RotaryAxes:
    """How a language model counts time.

    Attributes:
        per_second: positions of time in a second; None: one position per step, whatever its seconds.
    """

    per_second: float | None = None

    def count(self, parts: Sequence[tuple[Tensor, Segment | None]]) -> Tensor:
        """Return the positions `(B, S, 3)` int64 of a prompt, see `crema_core.model.prompt.Axes`."""
        return count_positions((mask_BP, clip and self._places_of(mask_BP, clip)) for mask_BP, clip in parts)

    def _places_of(self, mask_BP: Tensor, clip: Segment) -> Places:
        assert clip.grid is not None, "a clip's tokens lie in rows and columns"
        return self.places(mask_BP.unflatten(1, clip.values.shape[1:3]), clip.grid, clip.times)

    def places(self, mask_BTK: Tensor, grid: tuple[int, int], times_BT2: Tensor | None) -> Places:
        """Return where the tokens of a clip lie, relative to where it starts.

        Args:
            mask_BTK: `(B, T, K)` bool, real tokens.
            grid: rows and columns of the K tokens of a step, row by row.
            times_BT2: `(B, T, 2)` seconds, NaN where a sample has no clock; without one a step is taken to last a
                second, as transformers does.
        """
        rows, columns = grid
        steps_BT = mask_BTK.any(-1)
        rank_BT = (steps_BT.long().cumsum(1) - 1).clamp(min=0)
        time_BT = rank_BT
        if self.per_second is not None:
            interval_B = step_seconds(times_BT2, steps_BT) * self.per_second
            time_BT = (rank_BT * interval_B[:, None] + _ROUNDING).floor().long()
        shape = mask_BTK.shape
        row_K = torch.arange(rows, device=mask_BTK.device).repeat_interleave(columns)
        column_K = torch.arange(columns, device=mask_BTK.device).repeat(rows)
        axes = (time_BT[:, :, None].expand(shape), row_K.expand(shape), column_K.expand(shape))
        return Places(torch.stack(axes, dim=-1).flatten(1, 2), max(rows, columns))


class Places(NamedTuple):
    """Tokens of a clip.

    Attributes:
        values: `(B, P, 3)` int64: time, row and column.
        extent: positions the text behind moves on by.
    """

    values: Tensor
    extent: int


def step_seconds(times_BT2: Tensor | None, steps_BT: Tensor) -> Tensor:
    """Return the mean seconds from step to step `(B,)` float64; 1 where a sample has no clock or a single step."""
    batch, device = steps_BT.shape[0], steps_BT.device
    if times_BT2 is None:
        return torch.ones(batch, dtype=torch.float64, device=device)
    starts_BT = times_BT2[:, :, 0].double()
    number_T = torch.arange(steps_BT.shape[1], device=device).expand_as(steps_BT)
    last_B1 = number_T.masked_fill(~steps_BT, -1).max(1, keepdim=True).values.clamp(min=0)
    first_B1 = number_T.masked_fill(~steps_BT, steps_BT.shape[1] - 1).min(1, keepdim=True).values
    passed_B = (starts_BT.gather(1, last_B1) - starts_BT.gather(1, first_B1)).squeeze(1)
    between_B = steps_BT.sum(1) - 1
    seconds_B = passed_B / between_B.clamp(min=1)
    return torch.where((between_B > 0) & seconds_B.isfinite(), seconds_B, torch.ones_like(seconds_B))


def count_positions(parts: Iterable[tuple[Tensor, Places | None]]) -> Tensor:
    """Return the positions `(B, S, 3)` int64 of the parts of a prompt one after another, 0 where padded.

    Args:
        parts: mask `(B, P)` of every part, and places of its tokens where it is a clip.
    """
    found: list[Tensor] = []
    start_B: Tensor | None = None
    for mask_BP, places in parts:
        start_B = torch.zeros(len(mask_BP), dtype=torch.int64, device=mask_BP.device) if start_B is None else start_B
        if places is None:
            own = (start_B[:, None] + mask_BP.long().cumsum(1) - 1)[:, :, None].expand(-1, -1, 3)
            start_B = start_B + mask_BP.sum(1)
        else:
            own = start_B[:, None, None] + places.values
            start_B = start_B + places.extent * mask_BP.any(1)
        found.append(own * mask_BP[:, :, None])
    return torch.cat(found, dim=1)
