"""Rotary position embedding of queries and keys (PAVE section 3.3 and appendix B.1; off in all published checkpoints).

Frame i's time is, by count, the step number floor(i (T - 1) / (F - 1)), keys count 0..T-1; with time stamps it is the
middle of a span in seconds. Rows and columns of query and key grids are placed on the finer of the two by cell centres.

The released rule gives all three axes one falling range of frequencies, time first, so that columns turn by at most
0.04 rad across 14 of them. "space_time" gives every axis the whole range instead; "released_3d" is the released rule.

Shape letters: B samples, F frames, S query tokens of a frame, T side steps, N tokens of a step, H heads, P channel
pairs of a head.
"""

from __future__ import annotations

import math
from typing import Literal, NamedTuple, get_args

import torch
from torch import Tensor

from crema_core.errors import OptionsError
from crema_pave.grouping import ranks

Rotary = Literal["none", "time", "space_time", "released_3d"]
Grid = tuple[int, int]
BASE = 10_000.0


class Angles(NamedTuple):
    """Rotation of every token.

    Attributes:
        queries: `(B, F, S, P)` radians, float32.
        keys: `(B, T, N, P)` radians, float32.
    """

    queries: Tensor
    keys: Tensor


def axis_pairs(rotary: Rotary, head_dim: int) -> tuple[int, int, int]:
    """Return how many channel pairs of a head turn with time, row and column (16, 24, 24 of width 128).

    Raises:
        OptionsError: for an unknown rule or a head width that cannot be split.
    """
    if rotary not in get_args(Rotary):
        raise OptionsError(
            f"rotary={rotary!r} is not a rule. Accepted: {', '.join(get_args(Rotary))}. Use rotary='none', as all "
            "published PAVE checkpoints."
        )
    if rotary == "none":
        return 0, 0, 0
    pairs = head_dim // 2
    space = 0 if rotary == "time" else max(1, pairs * 3 // 8)
    if head_dim % 2 or pairs - 2 * space < 1:
        least = "an even width" if rotary == "time" else "an even width of at least 6"
        raise OptionsError(
            f"rotary={rotary!r} cannot turn heads {head_dim} wide. It needs {least}. Use fewer or more heads, or "
            "rotary='none'."
        )
    return pairs - 2 * space, space, space


def frequencies(rotary: Rotary, head_dim: int) -> Tensor:
    """Return `(P,)` float32: radians per unit of the axis that turns each channel pair."""
    split = axis_pairs(rotary, head_dim)
    ranges = [sum(split)] if rotary == "released_3d" else [count for count in split if count]
    exponents = torch.cat([torch.arange(count) / count for count in ranges])
    return torch.exp(exponents * -math.log(BASE))


def rotation(
    rotary: Rotary,
    head_dim: int,
    *,
    query_times: Tensor,
    key_times: Tensor,
    query_grid: Grid | None,
    key_grid: Grid | None,
) -> Angles:
    """Return the angles of all tokens.

    Args:
        rotary: any rule but "none".
        head_dim: width of a head, 2 P.
        query_times: `(B, F)`, see `index_times` and `second_times`.
        key_times: `(B, T)`.
        query_grid: rows and columns of the S tokens; not needed by "time".
        key_grid: rows and columns of the N tokens.
    """
    counts = axis_pairs(rotary, head_dim)
    num_time = counts[0]
    rate = frequencies(rotary, head_dim).to(query_times.device)
    spread = [times[:, :, None, None].float() * rate[:num_time] for times in (query_times, key_times)]
    if counts[1] == 0:
        return Angles(spread[0], spread[1])
    assert query_grid is not None
    assert key_grid is not None
    angles = []
    for time, grid in zip(spread, (query_grid, key_grid), strict=True):
        cells = [cell_centres(own, max(a, b)) for own, a, b in zip(grid, query_grid, key_grid, strict=True)]
        rows, columns = torch.meshgrid(*cells, indexing="ij")
        space = torch.stack([rows.flatten(), columns.flatten()], dim=1).to(rate.device)  # (S or N, 2)
        turned = space.float().repeat_interleave(counts[1], dim=1) * rate[num_time:]
        shape = (*time.shape[:2], turned.shape[0], -1)
        angles.append(torch.cat([time.expand(shape), turned.expand(shape)], dim=-1))
    return Angles(angles[0], angles[1])


def cell_centres(count: int, finer: int) -> Tensor:
    """Return `(count,)` int64: where the middles of `count` cells lie among `finer` cells."""
    return finer * (2 * torch.arange(count) + 1) // (2 * count)


def index_times(frame_mask: Tensor, step_mask: Tensor) -> tuple[Tensor, Tensor]:
    """Return times by count, `(B, F)` and `(B, T)`: the number of a step, and the step each frame falls on."""
    last_step, last_frame = step_mask.sum(1) - 1, frame_mask.sum(1) - 1
    frames = ranks(frame_mask) * last_step.clamp(min=0)[:, None] // last_frame.clamp(min=1)[:, None]
    return frames.float(), ranks(step_mask).float()


def second_times(frame_times: Tensor, step_times: Tensor) -> tuple[Tensor, Tensor]:
    """Return the middles of spans `(B, F, 2)` and `(B, T, 2)` in seconds, `(B, F)` and `(B, T)`."""
    return frame_times.float().mean(-1), step_times.float().mean(-1)


def square_grid(num_tokens: int, grid: Grid | None, *, of: str) -> Grid:
    """Return the rows and columns of a step's tokens: those given, else a square.

    Raises:
        OptionsError: when the tokens do not fill the grid, or no grid is given and they make no square.
    """
    side = math.isqrt(num_tokens)
    rows, columns = grid or (side, side)
    if rows * columns != num_tokens:
        shape = f"a grid of {rows} x {columns}" if grid else "no square"
        raise OptionsError(
            f"{num_tokens} {of} tokens of a step make {shape}. Accepted: rows times columns of them, row by row. Pass "
            f"{of}_grid=(rows, columns)."
        )
    return rows, columns


def rotate(values: Tensor, angles: Tensor) -> Tensor:
    """Turn channel i with channel i + P of every head.

    Args:
        values: `(B, F, S, H, 2 P)`.
        angles: `(B, F, S, P)`, or with S = 1 for all tokens.

    Returns:
        `(B, F, S, H, 2 P)` in the dtype of `values`.
    """
    cos, sin = (part[:, :, :, None].to(values.dtype) for part in (angles.cos(), angles.sin()))
    first, second = values.chunk(2, dim=-1)
    return torch.cat([first * cos - second * sin, second * cos + first * sin], dim=-1)
