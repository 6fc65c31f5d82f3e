"""Part of a clip or sound, written into its path: `clip.mp4#t=1.2,8.5`, as W3C media fragments write it.

Many data sets ask about a few seconds of a long file. With the part in the path, no file has to be cut, and everything
that tells sources apart by their path (feature caches, exchanging sources) tells parts apart too.
"""

from __future__ import annotations

import re
from typing import NamedTuple

_FRAGMENT = re.compile(r"(?P<path>.+)#t=(?P<start>\d+(?:\.\d+)?)?(?:,(?P<end>\d+(?:\.\d+)?))?")


class Span(NamedTuple):
    """A file and the part of it that is meant.

    Attributes:
        path: the file.
        start_s, end_s: seconds from its beginning; None: from the start, to the end.
    """

    path: str
    start_s: float | None = None
    end_s: float | None = None

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


def join_span(path: str, start_s: float | None, end_s: float | None = None) -> str:
    """Return a source for a part of a file.

    Example:
        >>> join_span("a.mp4", 1.5, 3)
        'a.mp4#t=1.5,3'
    """
    if start_s is None and end_s is None:
        return path
    return f"{path}#t={'' if start_s is None else f'{start_s:g}'}{'' if end_s is None else f',{end_s:g}'}"


def file_of(source: str) -> str:
    """Return the file a source names, without the part."""
    return split_span(source).path
