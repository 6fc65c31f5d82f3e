"""Reading many sources once, as training would, and what came of each: in processes of their own, and not twice.

Decoders are native code, which a damaged file can make crash, hang or take all memory. A process that ends so is a
finding about the source it was reading, and another one goes on with the next.

What was read may be kept in a file, so that a check that was interrupted, or comes again next week, reads only what is
new or has changed since: another path, size or time of change, another version or setting of the modality, or other
bounds on one source.
"""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import signal
import sys
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple, TextIO

from crema_core.common.atomic import is_stream
from crema_core.common.parent import watch_parent
from crema_core.common.reading import ABSENT, obstacle, parse_json, read_text
from crema_core.common.writing import writing
from crema_core.data.doubts import Doubt, collect_doubts
from crema_core.data.limits import bounds_changed, ending_process, how_it_ended
from crema_core.data.sampling import file_of
from crema_core.errors import CremaError, DataFileError, MediaError, ReadError, WorkerError, first_line
from crema_core.plugins import registry

if TYPE_CHECKING:
    from crema_core.modality import Modality

Files = tuple[str, tuple[str, ...]]
"""A modality and the files of a source."""
Work = tuple[str, str | list[str]]
"""A modality and a source as it is handed to it."""
_AT_ONCE = 8
"""Sources handed to a process at a time."""


class Fault(NamedTuple):
    """Why a source could not be read."""

    kind: Literal["damaged", "modality"]  # the file is at fault, or the package
    text: str


class Found(NamedTuple):
    """What came of reading a source."""

    fault: Fault | None  # None: it can be read
    doubts: tuple[Doubt, ...] = ()  # what looks wrong although it can
    is_lasting: bool = True  # False: another time, or with more memory, something else may come of it


@dataclass(frozen=True)
class Readers:
    """Modalities with their default options, as far as they can be built."""

    built: Mapping[str, Modality]
    absent: Mapping[str, CremaError]  # why the others cannot
    identities: Mapping[str, str]  # of those built: package, version and options as text


def build_readers(names: Sequence[str]) -> Readers:
    """Build modalities; those that cannot be built stop nothing."""
    from crema_core.data import modality_calls
    from crema_core.modality import BuildContext

    built: dict[str, Modality] = {}
    absent: dict[str, CremaError] = {}
    identities: dict[str, str] = {}
    for name in names:
        try:
            plugin = registry.resolve(name)
            built[name] = modality_calls.construct(plugin, plugin.options, BuildContext())
            identities[name] = f"{plugin.provider} {plugin.options.model_dump_json()}"
        except CremaError as error:
            absent[name] = error
    return Readers(built, absent, identities)


def read_once(
    sources: Mapping[Files, str | list[str]],
    readers: Readers,
    *,
    num_processes: int = 1,
    keep: Path | None = None,
    say: Callable[[str], None] = lambda text: None,
) -> dict[Files, Found]:
    """Read sources; returned is what came of each.

    Args:
        sources: of modalities that are built, each once.
        readers: the modalities.
        num_processes: that read; what ends one of them is what came of the source it was reading.
        keep: file to which every result is added as it comes, and whose results are not sought again.
        say: told about progress.

    Raises:
        DataFileError: when `keep` is another file, or cannot be written.
        OptionsError: when a bound on one source is none.
        WorkerError: when a process cannot begin.
    """
    changed = bounds_changed()  # what a bound refuses, another one lets through
    keys = {files: _key(files, readers.identities[files[0]] + changed) for files in sources}
    known = {} if keep is None else _kept(keep)
    found = {files: known[key] for files, key in keys.items() if key in known}
    left = [(files, (files[0], source)) for files, source in sources.items() if files not in found]
    num_known, num_bad = len(found), sum(own.fault is not None for own in found.values())
    with _Log(keep) as log:
        for files, own in _read(left, readers, num_processes):
            found[files] = own
            num_bad += own.fault is not None
            if own.is_lasting:
                log.add(keys[files], own)
            before = f", {num_known:,} of them before" if num_known else ""
            say(f"reading sources: {len(found):,} of {len(sources):,}{before}, {num_bad:,} unreadable")
    return found


def _read(work: Sequence[tuple[Files, Work]], readers: Readers, count: int) -> Iterator[tuple[Files, Found]]:
    """Read in processes of their own, so that a decoder that crashes or hangs costs one source and not the check."""
    waiting = deque(range(len(work)))
    names = tuple(dict.fromkeys(name for _, (name, _) in work))
    count = min(count, -(-len(work) // _AT_ONCE))
    hands: list[_Hand] = []
    try:
        while waiting or any(hand.given for hand in hands):
            for _ in range(min(count - len(hands), len(waiting))):
                hands.append(_Hand(names, readers))  # one by one, so that all are ended when the next is interrupted
            for hand in hands:
                if not hand.given and waiting:
                    hand.give([waiting.popleft() for _ in range(min(_AT_ONCE, len(waiting)))], work)
            ready = wait([hand.pipe for hand in hands if hand.given])
            for hand in [own for own in hands if own.pipe in ready]:
                number, found = hand.take(work)
                yield work[number][0], found
                if hand.has_ended:
                    waiting.extendleft(reversed(hand.given))
                    hands.remove(hand)
    finally:
        for hand in hands:
            hand.end()


class _Hand:
    """A process that reads sources, one after the other, until one of them ends it."""

    def __init__(self, names: Sequence[str], readers: Readers) -> None:
        # A forked process has the modalities at once, and those of a notebook too; torch's DataLoader forks as well.
        forks = sys.platform == "linux"
        context = multiprocessing.get_context("fork" if forks else "spawn")
        self.pipe, theirs = context.Pipe()
        arguments = (theirs, tuple(names), readers if forks else None)
        self.process: BaseProcess = context.Process(target=_serve, args=arguments, daemon=True)  # type: ignore[attr-defined]
        self.process.start()
        theirs.close()
        self.given: deque[int] = deque()
        self.has_ended = False
        self.has_begun = False

    def give(self, numbers: Sequence[int], work: Sequence[tuple[Files, Work]]) -> None:
        self.given = deque(numbers)
        try:
            self.pipe.send([work[number][1] for number in numbers])
        except OSError:  # it has ended since: what it leaves is taken below
            return

    def take(self, work: Sequence[tuple[Files, Work]]) -> tuple[int, Found]:
        """Return what came of the source that was read."""
        try:
            found: Found | str = self.pipe.recv()
        except (EOFError, OSError):
            found = self._lost(work[self.given[0]][1])
        if isinstance(found, str):
            raise _not_begun(found)
        self.has_begun = True
        return self.given.popleft(), found

    def _lost(self, own: Work) -> Found:
        self.has_ended = True
        self.process.join()
        if not self.has_begun and self.process.exitcode == 1:  # its own traceback is printed
            raise _not_begun("exit code 1")
        from crema_core.data.modality_calls import name_source

        text = (
            f"{name_source(own[1])} {how_it_ended(self.process.exitcode)}. A source is read or refused with an error, "
            "and a damaged file can do this to a decoder. Write or download it again, or leave it out."
        )
        return Found(Fault("damaged", text), is_lasting=False)

    def end(self) -> None:
        """End the process, whatever it does."""
        self.pipe.close()
        self.process.kill()
        self.process.join()


def _try(readers: Readers, work: Work) -> Found:
    from crema_core.data import modality_calls

    name, source = work
    with collect_doubts() as doubts:
        try:
            modality_calls.prepare(readers.built[name], source)
        except CremaError as error:
            return Found(Fault("damaged" if isinstance(error, MediaError) else "modality", str(error)), tuple(doubts))
    return Found(None, tuple(doubts))


def _not_begun(why: str) -> WorkerError:
    return WorkerError(
        f"A process that reads sources ended before it read any ({why}). It imports the program and builds the "
        "modalities anew. In a script, put what runs under if __name__ == '__main__':"
    )


def _serve(pipe: Connection, names: Sequence[str], readers: Readers | None) -> None:
    """Read what comes through a pipe and send what came of it, source by source."""
    try:
        import torch

        watch_parent()
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # the process that started this one ends it
        _be_taken_first()
        # Threads that have computed in the process that forked this one are not here, and would be waited for.
        torch.set_num_threads(1)
        own = build_readers(names) if readers is None else readers
    except Exception as error:  # noqa: BLE001 - the other end of the pipe raises it
        pipe.send(f"{type(error).__name__}: {first_line(error)}")
        return
    while True:
        try:
            piece: list[Work] = pipe.recv()
        except EOFError:
            return
        for work in piece:
            with ending_process():
                found = _try(own, work)
            pipe.send(found)


def _be_taken_first() -> None:
    """Where memory runs out, let the system (Linux) end this process and not the one that reports it."""
    with suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("1000", encoding="ascii")


def _key(files: Files, identity: str) -> str:
    """Return a digest of a modality, its settings, and the paths, sizes and times of its files."""
    name, paths = files
    facts: list[object] = [name, identity]
    for path in paths:
        place = Path(file_of(path))
        inside = sorted(place.rglob("*")) if place.is_dir() else [place]
        facts += [str(Path(path).absolute()), *(_state(own) for own in inside)]
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:32]


def _state(path: Path) -> tuple[str, int, int]:
    try:
        found = path.stat()
    except OSError:
        return path.name, -1, -1
    return path.name, found.st_size, found.st_mtime_ns


def _kept(path: Path) -> dict[str, Found]:
    """Read earlier results; a last line that an interruption cut off is left out."""
    if obstacle(path) == ABSENT:
        return {}
    if is_stream(path):
        raise DataFileError(
            f"'{path}' is a device or a pipe, and keeps nothing. --keep names a file. Name another one, or leave it "
            "out. Nothing was changed."
        )
    found: dict[str, Found] = {}
    try:
        *whole, _ = read_text(path, most=None).split("\n")
        for text in whole:
            line = parse_json(text)
            fault = line["fault"]
            doubts = tuple(Doubt(*own) for own in line["doubts"])
            found[line["source"]] = Found(None if fault is None else Fault(*fault), doubts)
    except (ReadError, TypeError, KeyError) as error:
        raise DataFileError(
            f"'{path}' does not hold results of an earlier check ({type(error).__name__}: {first_line(error)}). --keep "
            "names a file of its own. Name another one. Nothing was changed."
        ) from error
    return found


class _Log:
    """Adds results to a file; without a file, nothing."""

    def __init__(self, path: Path | None) -> None:
        self.path = path
        self._file: TextIO | None = None

    def __enter__(self) -> _Log:
        if self.path is None:
            return self
        try:
            torn = self.path.exists() and not self.path.read_bytes().endswith(b"\n") and self.path.stat().st_size > 0
            self._file = self.path.open("a", encoding="utf-8")
            if torn:  # the rest of a line that an interruption cut off must not join the next one
                whole = self.path.read_bytes()
                self._file.truncate(whole.rfind(b"\n") + 1)
        except OSError as error:
            raise DataFileError(
                f"'{self.path}' cannot be written: {error.strerror}. Results of the check are kept there. Name another "
                "file with --keep, or leave it out."
            ) from error
        return self

    def add(self, key: str, found: Found) -> None:
        """Write one result, as soon as it is known."""
        if self._file is not None and self.path is not None:
            with writing(self.path):
                self._file.write(json.dumps({"source": key, "fault": found.fault, "doubts": found.doubts}) + "\n")
                self._file.flush()

    def __exit__(self, *error: object) -> None:
        if self._file is not None:
            self._file.close()
