"""Which frames are taken from a clip: the middle one of equal segments.

The rule of the released CREMA code in evaluation (`(a + b) // 2` between integer bounds); senses that follow the frames
of another sense use the same function, so their frames show the same instants. `spread_indices` is another rule.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Callable, Sequence
from itertools import pairwise

Pick = Callable[[int, int], list[int]]
"""Which of so many frames are taken when so many are wanted."""


def segment_bounds(num_available: int, num_wanted: int) -> list[int]:
    """Return `num_wanted + 1` integer bounds of equal segments over `num_available` frames.

    >>> segment_bounds(16, 4)
    [0, 4, 8, 12, 16]
    """
    return [num_available * index // num_wanted for index in range(num_wanted + 1)]


def middle_indices(num_available: int, num_wanted: int) -> list[int]:
    """Return the index of the middle frame of every segment; indices repeat when fewer frames exist than wanted.

    >>> middle_indices(16, 4)
    [2, 6, 10, 14]
    >>> middle_indices(2, 4)
    [0, 0, 1, 1]
    """
    bounds = segment_bounds(num_available, num_wanted)
    return [(low + high) // 2 for low, high in pairwise(bounds)]


def spread_indices(num_available: int, num_wanted: int) -> list[int]:
    """Return equally spaced indices from the first frame to the last, as some released code takes them.

    >>> spread_indices(16, 4)
    [0, 5, 10, 15]
    >>> spread_indices(16, 1)
    [0]
    """
    return [(num_available - 1) * index // max(num_wanted - 1, 1) for index in range(num_wanted)]


def segment_spans(starts_s: Sequence[float], end_s: float, num_wanted: int) -> list[tuple[float, float]]:
    """Return the time span in seconds that each chosen frame stands for.

    Args:
        starts_s: when each available frame appears.
        end_s: when the last one disappears.
        num_wanted: number of segments.
    """
    edges = [*starts_s, end_s]
    bounds = segment_bounds(len(starts_s), num_wanted)
    return [(edges[low], edges[max(high, low + 1)]) for low, high in pairwise(bounds)]


def rate_indices(
    starts_s: Sequence[float], end_s: float, fps: float, *, low_s: float | None = None
) -> tuple[list[int], list[tuple[float, float]]]:
    """Return the frames on screen in the middle of equal spans of 1/fps seconds, and the spans.

    Right for variable frame rates too, because it goes by time and not by number.

    Args:
        starts_s: when each available frame appears, ascending.
        end_s: when the last one disappears.
        fps: frames wanted per second.
        low_s: where to begin; None: with the first frame.

    >>> rate_indices([0.0, 0.25, 0.5, 0.75], 1.0, fps=2)
    ([1, 3], [(0.0, 0.5), (0.5, 1.0)])
    >>> rate_indices([0.0, 0.9], 1.0, fps=2)
    ([0, 0], [(0.0, 0.5), (0.5, 1.0)])
    """
    low = starts_s[0] if low_s is None else low_s
    count = max(math.ceil((end_s - low) * fps - 1e-6), 1)
    edges = [min(low + index / fps, end_s) for index in range(count + 1)]
    indices = [max(bisect_right(starts_s, (a + b) / 2 + 1e-6) - 1, 0) for a, b in pairwise(edges)]
    return indices, list(pairwise(edges))
