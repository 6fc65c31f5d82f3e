"""Side tokens laid against the frames of their sample: groups for attention, positions for rotary embedding.

Samples whose frames and steps all have seconds go by time, the others by count (stretched to one step per frame where
they have fewer); both kinds may be in one batch.

Shape letters: B samples, F frames, T side steps, N tokens of a step.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from crema_pave.grouping import count_groups, have_clocks, stretch, time_groups
from crema_pave.rotary import index_times, second_times
from crema_pave.side_map import MappedSide

Alignment = Literal["time", "count"]


class Aligned(NamedTuple):
    """Side tokens and where they belong.

    Attributes:
        side: mapped tokens, stretched where needed.
        groups: `(B, F, T)` bool, the steps each frame reads.
        query_times: `(B, F)` positions of frames in time, in seconds or steps.
        key_times: `(B, T)` positions of steps in the same unit.
    """

    side: MappedSide
    groups: Tensor
    query_times: Tensor
    key_times: Tensor


def align_side(side: MappedSide, frame_mask: Tensor, clock: tuple[Tensor, Tensor] | None) -> Aligned:
    """Align side tokens to frames.

    Args:
        side: mapped tokens.
        frame_mask: `(B, F)` bool.
        clock: seconds of frames `(B, F, 2)` and of steps `(B, T, 2)`; None to go by count everywhere.
    """
    by_time = torch.zeros_like(frame_mask[:, 0])
    if clock is not None:
        by_time = have_clocks(*clock, frame_mask, side.mask.any(-1))
    short = ~by_time & (side.mask.any(-1).sum(1) < frame_mask.sum(1))
    num_steps = side.mask.shape[1]
    if bool(short.any()):
        values, mask = stretch(side.values, side.mask, frame_mask, short)
        side = side._replace(values=values, mask=mask)
    step_mask = side.mask.any(-1)
    groups = count_groups(frame_mask, step_mask)
    query_times, key_times = index_times(frame_mask, step_mask)
    if clock is not None:
        frame_times = clock[0]
        step_times = F.pad(clock[1], (0, 0, 0, step_mask.shape[1] - num_steps))
        query_seconds, key_seconds = second_times(frame_times, step_times)
        timed = time_groups(frame_times, step_times, frame_mask, step_mask)
        groups = torch.where(by_time[:, None, None], timed, groups)
        query_times = torch.where(by_time[:, None] & frame_mask, query_seconds, query_times)
        key_times = torch.where(by_time[:, None] & step_mask, key_seconds, key_times)
    return Aligned(side, groups, query_times, key_times)
