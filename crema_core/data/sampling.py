"""Which part of a file is meant, and which frames of it are taken.

A part is written into the path, `clip.mp4#t=1.2,8.5`, as W3C media fragments write it. Many data sets ask about a few
seconds of a long file; so no file has to be cut, and everything that tells sources apart by their path (feature caches,
exchanging sources) tells parts apart too.

Of the frames, the middle one of equal segments is taken: the rule of the released CREMA code in evaluation
(`(a + b) // 2` between integer bounds). Modalities that follow the frames of another one use the same function, so
their frames show the same instants.
"""

from __future__ import annotations

import math
import re
from bisect import bisect_right
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import NamedTuple

_FRAGMENT = re.compile(r"(?P<path>.+)#t=(?P<start>\d+(?:\.\d+)?)?(?:,(?P<end>\d+(?:\.\d+)?))?")
Pick = Callable[[int, int], list[int]]
"""Which of so many frames are taken when so many are wanted."""


class Timeline(NamedTuple):
    """When the frames of a clip are on screen, in seconds from the beginning of the file."""

    starts_s: list[float]  # when each frame appears, ascending
    finish_s: float  # when the last one disappears


class Span(NamedTuple):
    """A file and the part of it that is meant, in seconds from its beginning; None: from the start, to the end."""

    path: str
    start_s: float | None = None
    end_s: float | None = None

    @property
    def text(self) -> str:
        """The source that names this part, of one form for one part.

        Example:
            >>> Span("a.mp4", 1.50, 3.0).text, Span("a.mp4", None, 3.0).text, Span("a.mp4").text
            ('a.mp4#t=1.5,3', 'a.mp4#t=,3', 'a.mp4')
        """
        start, end = _seconds(self.start_s), _seconds(self.end_s)
        return f"{self.path}#t={start}{f',{end}' if end else ''}" if start or end else self.path

    @property
    def label(self) -> str:
        """The part as it stands in the names of files made of it; empty for a whole file.

        Example:
            >>> Span("a.mp4", 1.5, 3.0).label, Span("a.mp4", None, 3.0).label, Span("a.mp4").label
            ('1.5-3s', '0-3s', '')
        """
        start, end = _seconds(self.start_s), _seconds(self.end_s)
        return f"{start or '0'}-{f'{end}s' if end else 'end'}" if start or end else ""

    def within(self, start_s: float | None, end_s: float | None) -> Span:
        """Return the part of this part between two times counted from its own beginning.

        Example:
            >>> Span("a.mp4", 10.0, 20.0).within(1.0, 60.0)
            Span(path='a.mp4', start_s=11.0, end_s=20.0)
        """
        origin = self.start_s or 0.0
        start = self.start_s if start_s is None else origin + start_s
        ends = [end for end in (self.end_s, None if end_s is None else origin + end_s) if end is not None]
        return Span(self.path, start, min(ends) if ends else None)


def _seconds(time_s: float | None) -> str:
    return "" if time_s is None else (f"{time_s:.6f}".rstrip("0").rstrip("."))


def split_span(source: str) -> Span:
    """Return the file a source names and the part of it.

    Example:
        >>> split_span("a.mp4#t=1.5,3")
        Span(path='a.mp4', start_s=1.5, end_s=3.0)
        >>> split_span("a.mp4")
        Span(path='a.mp4', start_s=None, end_s=None)
    """
    found = _FRAGMENT.fullmatch(source)
    if found is None or (found["start"] is None and found["end"] is None):
        return Span(source)
    start, end = (None if text is None else float(text) for text in (found["start"], found["end"]))
    return Span(found["path"], start, end)


def loose_part(source: str) -> tuple[str, str]:
    """Return what stands before the sign of a part and what behind it, whether or not it is a part.

    Example:
        >>> loose_part("a.mp4#t=1:02"), loose_part("a.mp4")
        (('a.mp4', '1:02'), ('a.mp4', ''))
    """
    file, _, part = source.partition("#t=")
    return file, part


def file_of(source: str) -> str:
    """Return the file a source names, without the part."""
    return split_span(source).path


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


class RememberedPick:
    """A rule that remembers what it chose, for pictures that tell which frames are taken.

    Args:
        pick: the rule.

    Example:
        >>> picked = RememberedPick(middle_indices)
        >>> picked(16, 4), picked.captions
        ([2, 6, 10, 14], ['3 of 16', '7 of 16', '11 of 16', '15 of 16'])
    """

    def __init__(self, pick: Pick) -> None:
        self.pick = pick
        self.num_available = 1
        """How many frames there were; 1 where there was nothing to choose from."""
        self.chosen = [0]
        """Which of them were taken."""

    def __call__(self, num_available: int, num_wanted: int) -> list[int]:
        self.num_available, self.chosen = num_available, self.pick(num_available, num_wanted)
        return self.chosen

    @property
    def captions(self) -> list[str]:
        """ "3 of 16" for every frame that was taken."""
        return [f"{number + 1} of {self.num_available}" for number in self.chosen]


def segment_spans(starts_s: Sequence[float], end_s: float, num_wanted: int) -> list[tuple[float, float]]:
    """Return the time span in seconds that each chosen frame covers.

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
