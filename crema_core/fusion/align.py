"""Bring supporting modalities onto the major modality's frames.

The rule follows from what a modality declares and from its time stamps, never from its name (design: CREMA section 3.3;
the released code repeats static modalities and averages sound over its clips):

- one step per frame, and as many steps as the grid: as is;
- a single step (static): repeated;
- own steps with time stamps on both sides: averaged within each frame's time span, weighted by overlap;
- own steps without time stamps: averaged, then repeated.

Shape letters: B samples, R samples having the modality, T steps of the grid, S steps of the modality, Q queries, L
width.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import pad

from crema_core.tokens import ModalityTokens


class Grid(NamedTuple):
    """Steps every sample of a batch is fused on."""

    mask: Tensor  # `(B, T)` bool, real steps; every sample has at least one
    times: Tensor  # `(B, T, 2)` seconds, NaN where a sample has no clock


def frame_grid(tokens: Mapping[str, ModalityTokens], major: str, per_frame: frozenset[str], num_samples: int) -> Grid:
    """Return the grid: the major modality's steps, else those of the first per-frame modality a sample has, else one
        step.

    Each sample's grid depends on that sample alone, so its answer does not depend on the rest of the batch.
    """
    order = [major, *(name for name in tokens if name in per_frame and name != major)]
    sources = [tokens[name] for name in order if name in tokens]
    one = next(iter(tokens.values())).mask  # what is made of it is known on the host where it is
    num_steps = max((source.mask.shape[1] for source in sources), default=1)
    mask_BT, free_B = one.new_zeros(num_samples, num_steps), one.new_ones(num_samples)
    times_BT2 = torch.full((num_samples, num_steps, 2), torch.nan, device=one.device)
    for source in sources:
        rows, more = source.rows, num_steps - source.mask.shape[1]
        take_B1 = (free_B & one.new_zeros(num_samples).index_fill(0, rows, True))[:, None]
        own_BT = one.new_zeros(num_samples, num_steps).index_copy(0, rows, pad(source.mask, (0, more)))
        mask_BT = mask_BT | (own_BT & take_B1)
        if source.times is not None:
            own_RT2 = pad(source.times.to(times_BT2.dtype), (0, 0, 0, more), value=torch.nan)
            times_BT2 = torch.where(take_B1[:, :, None], times_BT2.index_copy(0, rows, own_RT2), times_BT2)
        free_B = free_B.index_fill(0, rows, False)
    return Grid(mask_BT | pad(free_B[:, None], (0, num_steps - 1)), times_BT2)


def align(tokens: ModalityTokens, grid: Grid, *, per_frame: bool) -> Tensor:
    """Return a modality's tokens on the grid.

    Args:
        tokens: R samples with S steps.
        grid: of the whole batch, T steps.
        per_frame: whether the modality declares one step per frame.

    Returns:
        `(R, T, Q, L)`, zero at steps the grid does not have.
    """
    steps_RT, steps_RS = grid.mask[tokens.rows], tokens.mask
    if per_frame and steps_RT.shape == steps_RS.shape and bool((steps_RT == steps_RS).all()):
        return tokens.values * steps_RT[:, :, None, None]
    weights_RTS = _weights(tokens, grid, per_frame=per_frame).to(tokens.values.dtype)
    return torch.einsum("rts,rsql->rtql", weights_RTS, tokens.values)


def _weights(tokens: ModalityTokens, grid: Grid, *, per_frame: bool) -> Tensor:
    steps_RT, steps_RS = grid.mask[tokens.rows], tokens.mask
    num_grid, num_own = steps_RT.sum(1), steps_RS.sum(1)
    mean_RTS = (steps_RS / num_own.clamp(min=1)[:, None])[:, None, :].expand(-1, steps_RT.shape[1], -1)
    weights = mean_RTS
    if tokens.times is not None:
        weights = _by_time(tokens.times, steps_RS, grid.times[tokens.rows], fallback=mean_RTS)
    if per_frame:
        same = (num_grid == num_own)[:, None, None]
        identity = torch.eye(steps_RT.shape[1], steps_RS.shape[1], device=weights.device)
        weights = torch.where(same, identity.to(weights.dtype), weights)
    return weights * steps_RT[:, :, None]


def _by_time(times_RS2: Tensor, steps_RS: Tensor, spans_RT2: Tensor, *, fallback: Tensor) -> Tensor:
    # Overlap in seconds of every grid span with every own step; spans nothing overlaps use the mean over the source.
    start = torch.maximum(spans_RT2[:, :, None, 0], times_RS2[:, None, :, 0])
    end = torch.minimum(spans_RT2[:, :, None, 1], times_RS2[:, None, :, 1])
    overlap = (end - start).nan_to_num(0.0).clamp(min=0) * steps_RS[:, None, :]
    total = overlap.sum(2, keepdim=True)
    return torch.where(total > 0, overlap / total.clamp(min=1e-9), fallback.to(overlap.dtype))
