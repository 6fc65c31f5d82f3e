"""Which side steps each frame attends to (PAVE section 3.3: side tokens are cut in time into one group per frame).

Two rules. By count, as released: T steps are dealt out to F frames in order, the first T mod F frames get one more;
fewer steps than frames are first stretched to one per frame by interpolation. By time: a frame reads the steps whose
seconds overlap its own. Counting drifts, because the larger groups come first: with 32 frames up to 17% of the clip.

Masks may have holes; what counts is the rank of a frame or step among the real ones of its sample. All samples are
treated at once and none depends on another.

Shape letters: B samples, F frames, T side steps, N tokens of a step, G steps of the longest group, C width.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor


class Groups(NamedTuple):
    """Groups of steps, padded to the longest.

    Attributes:
        steps: `(B, F, G)` int64, step numbers; what lies after a group's end is arbitrary.
        mask: `(B, F, G)` bool, real members.
    """

    steps: Tensor
    mask: Tensor


def count_groups(frame_mask: Tensor, step_mask: Tensor) -> Tensor:
    """Return the groups by count.

    Args:
        frame_mask: `(B, F)` bool.
        step_mask: `(B, T)` bool.

    Returns:
        `(B, F, T)` bool. With fewer steps than frames, the one or two steps a frame is interpolated from. Every real
        frame has a step if its sample has one.
    """
    frames_BF1, steps_B1T = ranks(frame_mask)[:, :, None], ranks(step_mask)[:, None, :]
    num_frames = frame_mask.sum(1).clamp(min=1)[:, None, None]
    num_steps = step_mask.sum(1)[:, None, None]
    size, larger = num_steps // num_frames, num_steps % num_frames
    start = frames_BF1 * size + torch.minimum(frames_BF1, larger)
    dealt = (steps_B1T >= start) & (steps_B1T < start + size + (frames_BF1 < larger).long())
    lower, rest = _position(frames_BF1, num_frames, num_steps)
    read = (steps_B1T == lower) | ((steps_B1T == lower + 1) & (rest > 0))
    groups = torch.where(num_steps < num_frames, read, dealt)
    return groups & frame_mask[:, :, None] & step_mask[:, None, :]


def time_groups(frame_times: Tensor, step_times: Tensor, frame_mask: Tensor, step_mask: Tensor) -> Tensor:
    """Return the groups by time: steps that overlap a frame's span, else the nearest step (the earlier of two).

    Spans are half open, so neighbours that touch do not overlap; one without length is the instant it starts at.

    Args:
        frame_times: `(B, F, 2)` seconds, start and end.
        step_times: `(B, T, 2)` seconds.
        frame_mask: `(B, F)` bool.
        step_mask: `(B, T)` bool.

    Returns:
        `(B, F, T)` bool; every real frame has a step if its sample has one.
    """
    frame_start, frame_end = (edge[:, :, None] for edge in _spans(frame_times))
    step_start, step_end = (edge[:, None, :] for edge in _spans(step_times))
    real = frame_mask[:, :, None] & step_mask[:, None, :]
    overlap = (step_start < frame_end) & (frame_start < step_end) & real
    gap = torch.maximum(step_start - frame_end, frame_start - step_end).masked_fill(~step_mask[:, None, :], torch.inf)
    nearest = torch.zeros_like(overlap).scatter_(2, gap.argmin(2, keepdim=True), True) & real
    return torch.where(overlap.any(2, keepdim=True), overlap, nearest)


def home_frames(frame_mask: Tensor, step_mask: Tensor, clock: tuple[Tensor, Tensor] | None) -> Tensor:
    """Return the one frame each step belongs to, where steps are not read but placed: each once.

    By time, the first frame whose span it overlaps, else the nearest (the earlier of two); by count, the first frame
    of those that read it.

    Args:
        frame_mask: `(B, F)` bool.
        step_mask: `(B, T)` bool.
        clock: seconds of frames `(B, F, 2)` and of steps `(B, T, 2)`; None to go by count everywhere.

    Returns:
        `(B, T)` int64, arbitrary at padded steps.
    """
    home = count_groups(frame_mask, step_mask).to(torch.uint8).argmax(1)
    if clock is None:
        return home
    (frame_start, frame_end), (step_start, step_end) = (_spans(times) for times in clock)
    ahead = step_start[:, None, :] - frame_end[:, :, None]
    gap = torch.maximum(ahead, frame_start[:, :, None] - step_end[:, None, :])
    # Half open: what touches does not overlap, so no gap at all is still further away than an overlap.
    gap = torch.where(gap < 0, -1.0, gap).masked_fill(~frame_mask[:, :, None], torch.inf)
    by_time = have_clocks(*clock, frame_mask, step_mask)
    return torch.where(by_time[:, None], gap.nan_to_num(torch.inf).argmin(1), home)


def have_clocks(frame_times: Tensor, step_times: Tensor, frame_mask: Tensor, step_mask: Tensor) -> Tensor:
    """Return `(B,)` bool: samples whose real frames and steps all have seconds (NaN means none)."""
    frames = frame_times.isfinite().all(-1) | ~frame_mask
    steps = step_times.isfinite().all(-1) | ~step_mask
    return frames.all(1) & steps.all(1)


def gather_index(groups: Tensor) -> Groups:
    """Turn `(B, F, T)` groups into step numbers, padded to the longest group of the batch (at least one)."""
    sizes = groups.sum(2)
    longest = max(1, int(sizes.max()))
    order = groups.to(torch.uint8).argsort(dim=2, descending=True, stable=True)[:, :, :longest]
    return Groups(order, torch.arange(longest, device=groups.device) < sizes[:, :, None])


def stretch(values: Tensor, mask: Tensor, frame_mask: Tensor, rows: Tensor) -> tuple[Tensor, Tensor]:
    """Interpolate samples with fewer steps than frames to one step per frame, end points aligned, space untouched.

    The released code does this to the mapped features. It computes the new length in floating point, which for some
    numbers of frames (15, 26, 29 ...) is one short and leaves the last frame without a step; here it is F.

    Args:
        values: `(B, T, N, C)` mapped side tokens.
        mask: `(B, T, N)` bool.
        frame_mask: `(B, F)` bool.
        rows: `(B,)` bool, samples to stretch; the others are padded only.

    Returns:
        Values `(B, T', N, C)` and mask `(B, T', N)` with T' the larger of T and F. A token that only one of the two
        neighbouring steps has is taken from that step.
    """
    steps_BT = mask.any(-1)
    longest = max(values.shape[1], frame_mask.shape[1])
    order_BT = steps_BT.to(torch.uint8).argsort(dim=1, descending=True, stable=True)
    num_frames, num_steps = frame_mask.sum(1)[:, None], steps_BT.sum(1)[:, None]
    new_BT = torch.arange(longest, device=values.device)[None]
    lower, rest = _position(new_BT, num_frames, num_steps)
    upper = torch.minimum(lower + 1, (num_steps - 1).clamp(min=0))
    fraction = (rest / (num_frames - 1).clamp(min=1))[:, :, None]
    total, weights = torch.zeros_like(fraction), []
    for place, weight in ((lower, 1 - fraction), (upper, fraction)):
        index = order_BT.gather(1, place.clamp(max=steps_BT.shape[1] - 1))
        weight_BTN = weight * mask.gather(1, index[:, :, None].expand(-1, -1, mask.shape[2]))
        weights.append((index, weight_BTN))
        total = total + weight_BTN
    stretched = values.new_zeros(())
    for index, weight_BTN in weights:
        share = (weight_BTN / total.clamp(min=torch.finfo(total.dtype).tiny)).to(values.dtype)
        expanded = index[:, :, None, None].expand(-1, -1, *values.shape[2:])
        stretched = stretched + values.gather(1, expanded) * share[..., None]
    new_mask = (total > 0) & (new_BT < num_frames)[:, :, None]
    more = longest - values.shape[1]
    values = torch.nn.functional.pad(values, (0, 0, 0, 0, 0, more))
    mask = torch.nn.functional.pad(mask, (0, 0, 0, more))
    return (
        torch.where(rows[:, None, None, None], stretched, values),
        torch.where(rows[:, None, None], new_mask, mask),
    )


def ranks(mask: Tensor) -> Tensor:
    """Return `(B, F)` int64: the place of every real entry of `(B, F)` among the real ones of its sample, from 0."""
    return (mask.long().cumsum(1) - 1).clamp(min=0)


def _position(frames: Tensor, num_frames: Tensor, num_steps: Tensor) -> tuple[Tensor, Tensor]:
    # Step i (T - 1) / (F - 1) of frame i in whole numbers: the lower step and what is left, in parts of F - 1.
    scaled = frames.clamp(min=0) * (num_steps - 1).clamp(min=0)
    divisor = (num_frames - 1).clamp(min=1)
    return torch.minimum(scaled // divisor, (num_steps - 1).clamp(min=0)), scaled % divisor


def _spans(times: Tensor) -> tuple[Tensor, Tensor]:
    start, end = times.float().unbind(-1)
    return start, torch.maximum(end, torch.nextafter(start, start.new_tensor(torch.inf)))
