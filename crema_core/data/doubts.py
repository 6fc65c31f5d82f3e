"""Numbers that can be read and are unlikely to mean what they are taken for: said once, with the option to change.

A reader calls `doubt` for a survey of 300 m where 4 m are usual, or a distance of 65.5 m that is the largest 16-bit
number. Nothing is refused: the reader cannot know. Whoever reads many sources collects the doubts and says the first of
each sort; without a collector each is logged as it comes.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import NamedTuple

logger = logging.getLogger(__name__)


class Doubt(NamedTuple):
    """What looks wrong about a source that was read."""

    sort: str  # equal for sources that look wrong in the same way: "depth: 65535"
    text: str  # what was found in which file, what is usual, and which option says otherwise


_logged: set[str] = set()
_collected: ContextVar[list[Doubt] | None] = ContextVar("doubts", default=None)


def doubt(sort: str, text: str) -> None:
    """Note that a source looks wrong.

    Args:
        sort: equal for sources that look wrong in the same way.
        text: three parts: what was found in which source, what is usual, and which option says otherwise.
    """
    collected = _collected.get()
    if collected is not None:
        collected.append(Doubt(sort, text))
    elif text not in _logged:
        _logged.add(text)
        logger.warning("%s", text)


@contextmanager
def collect_doubts() -> Iterator[list[Doubt]]:
    """Keep the doubts of what is read inside, instead of logging them.

    Example:
        >>> with collect_doubts() as doubts:
        ...     doubt("depth: unit", "'a.png' reaches 65.5 m.")
        >>> doubts[0].text
        "'a.png' reaches 65.5 m."
    """
    collected: list[Doubt] = []
    token = _collected.set(collected)
    try:
        yield collected
    finally:
        _collected.reset(token)


def say_once(own: Doubt, *, where: str) -> None:
    """Log a doubt about a source of a data set, the first of its sort in this process.

    Args:
        own: what was found.
        where: the data set and the line the source comes from, or nothing: "line 3".
    """
    if own.sort not in _said:
        _said.add(own.sort)
        place = f" ({where})" if where else ""
        logger.warning("%s%s Further ones are not named here; crema data check --deep lists them.", own.text, place)


_said: set[str] = set()
