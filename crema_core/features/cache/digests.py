"""Digests of media files: what a feature is kept under.

A file is read once; its digest is noted with size, times and inode, and believed as long as these stay. Notes are lines
of journals, one journal per writer, each line with a checksum; a line that was cut off by a crash is skipped. Losing
notes costs reading files again, nothing else. Torch-free.
"""

from __future__ import annotations

import hashlib
import json
import time
import zlib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

from crema_core.data.span import split_span
from crema_core.errors import MediaError
from crema_core.features.cache.layout import new_name

Source = str | Sequence[str]
Stamp = tuple[int, int, int, int]
JOURNAL = ".jsonl"
# A file changed again within the clock's resolution keeps its time stamp, so the digest of a file just written is used
# but not noted (git calls such entries "racily clean").
SETTLED_NS = 2_000_000_000


class FileDigests:
    """Digests by path.

    Args:
        folder: of the journals; made when the first note is written.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._journal = folder / f"{new_name()}{JOURNAL}"
        self._notes: dict[str, tuple[Stamp, str]] = {}
        self._sources: dict[str | tuple[str, ...], str] = {}
        for path in sorted(folder.glob(f"*{JOURNAL}")):
            with suppress(FileNotFoundError):  # tidied up by another process
                self._notes.update(read_notes(path))

    def of(self, source: Source) -> str:
        """Return the digest of a source: of the content and ending of every file, in order; asked for again, as before.

        Raises:
            MediaError: when a file cannot be read.
        """
        key = source if isinstance(source, str) else tuple(source)
        if key not in self._sources:
            self._sources[key] = self._combine(source)
        return self._sources[key]

    def prepare(self, sources: Sequence[Source], *, num_threads: int = 1) -> None:
        """Read files ahead in threads, so that `of` answers at once."""
        with ThreadPoolExecutor(max(num_threads, 1)) as pool:
            for _ in pool.map(self.of, sources):
                pass

    def _combine(self, source: Source) -> str:
        digest = hashlib.sha256()
        digest.update(b"one" if isinstance(source, str) else b"several")
        for path in [source] if isinstance(source, str) else source:
            part = split_span(path)
            digest.update(self._of_path(Path(part.path)).encode())
            if part.path != path:  # another part of a file has other features
                digest.update(f" {part.start_s} {part.end_s}".encode())
        return digest.hexdigest()[:40]

    def _of_path(self, path: Path) -> str:
        try:
            if path.is_dir():
                inside = sorted(entry for entry in path.rglob("*") if entry.is_file())
                parts = [f"{entry.relative_to(path)} {self._of_file(entry)}" for entry in inside]
                return hashlib.sha256("\n".join(parts).encode()).hexdigest()
            return f"{path.suffix.lower()} {self._of_file(path)}"  # the ending decides how a file is decoded
        except OSError as error:
            raise MediaError(
                f"'{path}' cannot be read: {error.strerror}. Its content is needed to find its kept features. Check "
                'the path and the permissions, or pass cache="none".'
            ) from error

    def _of_file(self, path: Path) -> str:
        place, stamp = str(path.absolute()), _stamp(path)
        noted = self._notes.get(place)
        if noted is not None and noted[0] == stamp:
            return noted[1]
        with path.open("rb") as stream:
            found = hashlib.file_digest(stream, "sha256").hexdigest()
        if _stamp(path) == stamp and time.time_ns() - max(stamp[1], stamp[2]) > SETTLED_NS:
            self._notes[place] = (stamp, found)
            with suppress(OSError):  # a cache that can only be read
                self._append(place, stamp, found)
        return found

    def _append(self, place: str, stamp: Stamp, digest: str) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        # One write of one line: lines of threads do not mix.
        with self._journal.open("ab", buffering=0) as stream:
            stream.write(note_line(place, stamp, digest))


def note_line(place: str, stamp: Stamp, digest: str) -> bytes:
    """Return a line of a journal: a checksum and what is noted."""
    text = json.dumps([place, *stamp, digest]).encode()
    return b"%08x %s\n" % (zlib.crc32(text), text)


def read_notes(path: Path) -> dict[str, tuple[Stamp, str]]:
    """Read a journal, leaving out lines that are not whole."""
    notes = {}
    for line in path.read_bytes().splitlines():
        value, _, text = line.partition(b" ")
        if value == b"%08x" % zlib.crc32(text):
            place, size, changed, altered, inode, digest = json.loads(text)
            notes[place] = ((size, changed, altered, inode), digest)
    return notes


def _stamp(path: Path) -> Stamp:
    found = path.stat()
    return found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_ino
