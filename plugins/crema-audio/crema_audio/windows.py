"""Where windows of a longer sound begin."""

from __future__ import annotations

import math

from crema_core.data.media import middle_indices


def window_starts(
    num_steps: int, length: int, num_windows: int, placement: str, *, stride: int | None = None
) -> list[int]:
    """Return where windows begin: one after the other while the sound lasts, else as `placement` says.

    Args:
        num_steps: length of the sound, in frames or samples.
        length: of a window.
        num_windows: most windows.
        placement: "first" takes the beginning, "spread" all of a longer sound evenly.
        stride: distance between windows; None: their length for "first", whatever spreads them evenly for "spread".

    >>> window_starts(250, 100, 4, "spread")
    [0, 100, 200]
    >>> window_starts(1000, 100, 3, "spread")
    [0, 450, 900]
    >>> window_starts(1000, 100, 3, "first")
    [0, 100, 200]
    >>> window_starts(250, 100, 4, "first", stride=50)
    [0, 50, 100, 150]
    """
    if stride is not None:
        # The last window is the first that reaches the end.
        every = [index * stride for index in range(max(math.ceil((num_steps - length) / stride), 0) + 1)]
        if placement == "first" or len(every) <= num_windows:
            return every[:num_windows]
        return [every[index] for index in middle_indices(len(every), num_windows)]
    needed = max(math.ceil(num_steps / length), 1)
    if needed <= num_windows or placement == "first":
        return [index * length for index in range(min(needed, num_windows))]
    if num_windows == 1:
        return [(num_steps - length) // 2]
    return [(num_steps - length) * index // (num_windows - 1) for index in range(num_windows)]
