"""How sure an accuracy is: percentile bootstrap over clips.

Questions about one clip stand or fall together, so clips are drawn, not questions (cluster bootstrap); drawing
questions would give intervals that are too narrow.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

import numpy as np

NUM_DRAWS, LEVEL = 1000, 0.95
_BLOCK = 100


def bootstrap_interval(
    right: Sequence[float],
    clips: Sequence[str],
    *,
    before: Sequence[float] | None = None,
    seed: int = 0,
    num_draws: int = NUM_DRAWS,
    level: float = LEVEL,
) -> tuple[float, float]:
    """Return the interval in which the accuracy lies, or its change where a situation to compare with is given.

    The draws of a change are of pairs, so what makes a clip easy or hard for both drops out; the interval is narrower
    than the difference of two intervals, and one without 0 is a change that other clips would show too.

    Args:
        right: of every question, at least one: 1 or True where it is answered right, 0 where not, between for a draw.
        clips: the clip each is about; equal texts are one clip.
        before: the same questions, answered in the situation compared with; None: there is none.
        seed: of the draws.
        num_draws: draws of as many clips as there are, with replacement.
        level: share of the draws inside the interval.

    Returns:
        Lower and upper end, 0..1, of a change -1..1. With a single clip nothing can be said, and the interval is the
        whole of it.

    Example:
        >>> bootstrap_interval([True] * 4, ["a", "a", "b", "c"])
        (1.0, 1.0)
    """
    values = right if before is None else [own - old for own, old in zip(right, before, strict=True)]
    sums: defaultdict[str, list[float]] = defaultdict(lambda: [0.0, 0.0])
    for own, clip in zip(values, clips, strict=True):
        sums[clip][0] += own
        sums[clip][1] += 1
    if len(sums) < 2:
        return (0.0 if before is None else -1.0, 1.0)
    totals = np.array(list(sums.values()), dtype=np.float64)
    generator = np.random.default_rng(seed)
    drawn: list[float] = []
    while len(drawn) < num_draws:
        size = min(_BLOCK, num_draws - len(drawn))
        counts = generator.multinomial(len(totals), np.full(len(totals), 1 / len(totals)), size=size)
        summed, asked = (counts @ totals).T
        drawn += (summed / asked).tolist()
    low, high = np.quantile(drawn, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)
