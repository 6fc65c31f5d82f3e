"""Reading many sources once, as training would, and what came of each: in several processes, and not twice.

What was read may be kept in a file, so that a check that was interrupted, or comes again next week, reads only what is
new or has changed since: another path, size or time of change, or another version or setting of the modality.
"""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple, TextIO

from crema_core.common.atomic import is_stream
from crema_core.common.parent import watch_parent
from crema_core.common.reading import ABSENT, obstacle, parse_json, read_text
from crema_core.common.writing import writing
from crema_core.data.doubts import Doubt, collect_doubts
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
        num_processes: that read; each builds the modalities itself.
        keep: file to which every result is added as it comes, and whose results are not sought again.
        say: told about progress.

    Raises:
        DataFileError: when `keep` is another file, or cannot be written.
        WorkerError: when a process ends while it reads.
    """
    keys = {files: _key(files, readers.identities[files[0]]) for files in sources}
    known = {} if keep is None else _kept(keep)
    found = {files: known[key] for files, key in keys.items() if key in known}
    left = [(files, (files[0], source)) for files, source in sources.items() if files not in found]
    num_known, num_bad = len(found), sum(own.fault is not None for own in found.values())
    with _Log(keep) as log:
        for files, own in _read(left, readers, num_processes):
            found[files] = own
            num_bad += own.fault is not None
            log.add(keys[files], own)
            before = f", {num_known:,} of them before" if num_known else ""
            say(f"reading sources: {len(found):,} of {len(sources):,}{before}, {num_bad:,} unreadable")
    return found


def _read(work: Sequence[tuple[Files, Work]], readers: Readers, count: int) -> Iterator[tuple[Files, Found]]:
    pieces = [work[start : start + _AT_ONCE] for start in range(0, len(work), _AT_ONCE)]
    count = min(count, len(pieces))
    if count <= 1:
        yield from ((files, _try(readers, own)) for files, own in work)
        return
    names = tuple(dict.fromkeys(name for _, (name, _) in work))
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(count, context, initializer=_start, initargs=(names, count)) as pool:
        futures = {pool.submit(_read_piece, [own for _, own in piece]): piece for piece in pieces}
        try:
            for future in as_completed(futures):
                yield from ((files, own) for (files, _), own in zip(futures[future], future.result(), strict=True))
        except BrokenProcessPool as error:
            raise WorkerError(
                "A process that reads sources ended. A reader that crashes, or takes all memory, ends its process. Run "
                "again with --processes 1 and PYTHONFAULTHANDLER=1, which prints where; of a killed one, use fewer "
                "--processes. With --keep FILE what was read before is not read again."
            ) from error
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def _try(readers: Readers, work: Work) -> Found:
    from crema_core.data import modality_calls

    name, source = work
    with collect_doubts() as doubts:
        try:
            modality_calls.prepare(readers.built[name], source)
        except CremaError as error:
            return Found(Fault("damaged" if isinstance(error, MediaError) else "modality", str(error)), tuple(doubts))
    return Found(None, tuple(doubts))


_readers: Readers | None = None


def _start(names: Sequence[str], count: int) -> None:
    global _readers
    import torch

    watch_parent()
    torch.set_num_threads(max((os.cpu_count() or 1) // count, 1))
    _readers = build_readers(names)


def _read_piece(piece: Sequence[Work]) -> list[Found]:
    assert _readers is not None, "the initializer builds them"
    return [_try(_readers, work) for work in piece]


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
