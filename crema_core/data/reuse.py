"""What the modalities of one sample read of the same clip is decoded in one pass.

Frames, tracks and measurements of one recording are often one file, and every modality opens it for itself. While a
sample is read (`one_sample`), whoever decodes a clip first also keeps the frames that the modalities behind it will
want. What these want follows from what they asked for the last time (`Want`); where nobody knows yet, all frames are
kept, if they are few. A wrong guess changes no result: a modality whose frames are not all here decodes the file
itself, as it does outside of a sample. So do all where damage is met on the way: what one modality wants must not
decide what another one finds.

Nothing is kept longer than a sample is read, and of it at most `MOST_BYTES`, within the bound on one source.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, NamedTuple
from weakref import WeakKeyDictionary

from crema_core.data.limits import max_bytes
from crema_core.data.sampling import Timeline, file_of

if TYPE_CHECKING:
    import av

    from crema_core.modality import Modality

MOST_BYTES = 256 * 2**20
"""Of decoded frames that are kept for the modalities behind the one that reads: 85 of full HD, all of 10 s of 360p."""
_MOST_WANTS = 8
"""Different requests of a modality that are remembered: one, but for those with several clips in a source."""

Want = Callable[[str, Timeline], list[int]]
"""Which frames a modality takes of a source, by number. Equal ones are one."""


class Kept(NamedTuple):
    """What is known of a clip that was decoded for this sample."""

    timeline: Timeline
    width: int  # of a frame in pixels, as the file announces it
    height: int
    frames: dict[int, av.VideoFrame]  # those that are kept, by number


class Spare:
    """Frames to keep for others while a clip is decoded.

    Args:
        numbers: which.
        room: bytes they may have; where they turn out to have more, none is kept.
    """

    def __init__(self, numbers: Iterable[int] = (), *, room: float = 0) -> None:
        self.numbers = frozenset(numbers)
        self.frames: dict[int, av.VideoFrame] = {}
        self._room = room

    def add(self, number: int, frame: av.VideoFrame) -> None:
        """Keep a frame if it is one of them; nothing is copied, it stays in the decoder's own memory."""
        if number not in self.numbers:
            return
        self._room -= sum(plane.buffer_size for plane in frame.planes)
        if self._room < 0:
            self.numbers, self.frames = frozenset(), {}
        else:
            self.frames[number] = frame


class SampleFiles:
    """The clips of one sample while it is read.

    Args:
        sources: the modalities in the order in which they are read, each with its source.
    """

    def __init__(self, sources: Sequence[tuple[Modality, object]]) -> None:
        self._due = [(modality, _paths(source)) for modality, source in sources]
        self._kept: dict[str, Kept] = {}

    def begin(self, modality: Modality) -> None:
        """Take a modality off those that are due: it is read now."""
        place = next((place for place, (own, _) in enumerate(self._due) if own is modality), None)
        if place is not None:
            del self._due[place]

    def end(self) -> None:
        """Free what no modality that is due reads."""
        for name in [name for name in self._kept if not self._due_at(name)]:
            del self._kept[name]

    def spare(self, path: str | os.PathLike[str], timeline: Timeline, frame_bytes: int) -> Spare:
        """Return what to keep of a clip that is about to be decoded.

        Args:
            path: the file.
            timeline: when its frames are on screen.
            frame_bytes: what one of them takes at most, about.
        """
        every = range(len(timeline.starts_s))
        room = min(MOST_BYTES, max_bytes() / 4)
        numbers: set[int] = set()
        for modality, source in self._due_at(path):
            wants = _wants.get(modality)
            numbers.update(every if wants is None else _guess(wants, source, timeline))
        numbers.intersection_update(every)
        return Spare(numbers if len(numbers) * frame_bytes <= room else (), room=room)

    def keep(self, path: str | os.PathLike[str], kept: Kept) -> None:
        """Keep what was decoded for the modalities that are due."""
        if kept.frames:
            self._kept[_name(path)] = kept

    def kept(self, path: str | os.PathLike[str]) -> Kept | None:
        """Return what is kept of a clip."""
        return self._kept.get(_name(path))

    def _due_at(self, path: str | os.PathLike[str]) -> list[tuple[Modality, str]]:
        name = _name(path)
        return [(modality, own) for modality, paths in self._due for own in paths if _name(file_of(own)) == name]


_files: ContextVar[SampleFiles | None] = ContextVar("_files", default=None)
_asked: ContextVar[list[Want] | None] = ContextVar("_asked", default=None)
_wants: WeakKeyDictionary[Modality, tuple[Want, ...]] = WeakKeyDictionary()
"""What each modality wanted of the source it read last; nothing of those that read no clips."""


@contextmanager
def one_sample(sources: Sequence[tuple[Modality, object]]) -> Iterator[None]:
    """Decode clips once for all modalities that are read inside, one after the other.

    Without it each modality decodes for itself, with the same result.

    Args:
        sources: the modalities in the order in which they are read, each with its source.
    """
    token = _files.set(SampleFiles(sources) if len(sources) > 1 else None)
    try:
        yield
    finally:
        _files.reset(token)


@contextmanager
def read_by(modality: Modality) -> Iterator[None]:
    """Remember what a modality asks for inside."""
    files, asked = _files.get(), list[Want]()
    if files is None:  # nobody will want to know
        yield
        return
    files.begin(modality)
    token = _asked.set(asked)
    try:
        yield
        _wants[modality] = tuple(asked[-_MOST_WANTS:])
    finally:
        _asked.reset(token)
        files.end()


def note(want: Want) -> None:
    """Note what is asked for by the modality that reads now."""
    asked = _asked.get()
    if asked is not None and want not in asked:
        asked.append(want)


def sample_files() -> SampleFiles | None:
    """Return the clips of the sample that is read now; None outside of one."""
    return _files.get()


def _guess(wants: Sequence[Want], source: str, timeline: Timeline) -> list[int]:
    numbers: list[int] = []
    for want in wants:
        try:
            numbers += want(source, timeline)
        except Exception:  # noqa: BLE001 - a rule of a package; the modality that is due runs into it and reports it
            return []
    return numbers


def _paths(source: object) -> list[str]:
    given = source if isinstance(source, list | tuple) else [source]
    return [os.fspath(own) for own in given if isinstance(own, str | os.PathLike)]


def _name(path: str | os.PathLike[str]) -> str:
    return os.path.normpath(path)
