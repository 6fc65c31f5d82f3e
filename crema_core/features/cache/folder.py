"""A cache folder: its names and marker, what it holds, whether it is intact, and making room on request.

A shard is an ordinary safetensors file. Features of the file with digest D are the tensors `D.values` `(T, N, D)`,
`D.mask` `(T,)` or `(T, N)` and, where they have a clock, `D.times` `(T, 2)`; the header's metadata hold for D the
number format the encoder returned and a checksum over everything that is kept for D.

Torch-free, so `crema cache` answers at once. A cache is only ever emptied by a person who states so, a whole shard at a
time and longest unused first.
"""

from __future__ import annotations

import json
import mmap
import re
import secrets
import time
import zlib
from collections import Counter
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from crema_core.common.atomic import write_text
from crema_core.common.reading import ABSENT, obstacle, parse_json, read_json, why
from crema_core.errors import CacheError, ReadError

MARKER, FEATURES, FILES, IDENTITY = "crema-cache.json", "features", "files", "identity.json"
SHARD, DAMAGED = ".safetensors", ".damaged"
FORMAT = 1
_LENGTH_BYTES = 8
_MAX_HEADER_BYTES = 100_000_000  # the limit of the safetensors format
ABANDONED_S = 3600.0
"""Age at which a hidden temporary file is what a killed writer left; writing one takes seconds."""


class Part(NamedTuple):
    """Where one tensor lies in a shard: dtype as safetensors spells it, shape, first and last byte in the file."""

    dtype: str
    shape: tuple[int, ...]
    start: int
    stop: int


class Entry(NamedTuple):
    """What a shard says about the features of one source."""

    parts: dict[str, Part]  # "values", "mask" and perhaps "times"
    encoded: str  # number format the encoder returned, for example "float32"
    checksum: int  # of all of this and the bytes

    @property
    def num_bytes(self) -> int:
        """Bytes the tensors take in the file."""
        return sum(part.stop - part.start for part in self.parts.values())


def open_folder(folder: Path) -> None:
    """Make a folder a cache, or accept one that is.

    Raises:
        CacheError: when it holds something else, has another format, or cannot be made.
    """
    if (folder / MARKER).is_file():
        require_cache(folder)
        return
    # Hidden files are ignored: another process may be writing the marker at this moment.
    if folder.exists() and (not folder.is_dir() or any(not path.name.startswith(".") for path in folder.iterdir())):
        raise CacheError(
            f"'{folder}' exists and is no feature cache (there is no {MARKER} in it). Accepted: a new or empty folder, "
            "or one made by this package. Name another folder. Nothing was changed."
        )
    try:
        write_text(folder / MARKER, json.dumps({"format": FORMAT}) + "\n")
    except OSError as error:
        raise CacheError(
            f"The feature cache '{folder}' cannot be made: {error.strerror}. A cache needs a folder that can be "
            "written. Name another folder."
        ) from error


def require_cache(folder: Path) -> None:
    """Raise `CacheError` unless a folder is a cache of this format."""
    try:
        found = read_json(folder / MARKER)
    except ReadError as error:
        raise CacheError(
            f"'{folder}' is no feature cache (its {MARKER} cannot be read). Accepted: a folder that crema encode, or "
            "fit with cache=DIR, wrote. Check the path. Nothing was changed."
        ) from error
    if not isinstance(found, dict) or found.get("format") != FORMAT:
        raise CacheError(
            f"The feature cache '{folder}' has another format than {FORMAT}. This version reads and writes format "
            f"{FORMAT} only. Name another folder. Nothing was changed."
        )


def new_name(folder: Path) -> str:
    """Return a name for a file in a folder that no other writer has; it sorts behind all that are there.

    That it does so where the clock was set back since, too, lets what was written again hide what is damaged.
    """
    with suppress(OSError):  # the folder is not there yet, or may not be listed: the clock alone counts
        last = max((own.name for own in folder.iterdir() if _NAMED.match(own.name)), default="0")
        return _name(max(time.time_ns(), int(last.partition("-")[0]) + 1))
    return _name(time.time_ns())


_NAMED = re.compile(r"\d{20}-")


def _name(number: int) -> str:
    return f"{number:020d}-{secrets.token_hex(4)}"


def read_entries(path: Path) -> dict[str, Entry]:
    """Read the header of a shard; the bytes behind it are not looked at.

    Raises:
        CacheError: for a file that is not a whole shard, saying how one sees it.
        FileNotFoundError: when it is gone, for example evicted by another process.
    """
    if (reason := obstacle(path)) not in (None, ABSENT):  # one that is gone is the caller's to notice
        raise CacheError(f"it {reason}")
    try:
        with path.open("rb") as stream:
            size = path.stat().st_size
            length = int.from_bytes(stream.read(_LENGTH_BYTES), "little")
            if not 2 <= length <= min(size, _MAX_HEADER_BYTES):
                raise CacheError("it has no header")
            return _parse(parse_json(stream.read(length)), begin=_LENGTH_BYTES + length, size=size)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise CacheError(f"it {why(error)}") from error
    except (ValueError, LookupError, TypeError, AttributeError, ArithmeticError, MemoryError) as error:
        raise CacheError(f"its header cannot be read ({type(error).__name__})") from error


def checksum(digest: str, entry: Entry, view: memoryview) -> int:
    """Return the checksum of an entry whose shard's bytes are `view`; it covers names, formats and shapes too."""
    value = 0
    for name, part in sorted(entry.parts.items()):
        value = zlib.crc32(describe(digest, name, part.dtype, part.shape, entry.encoded), value)
        value = zlib.crc32(view[part.start : part.stop], value)
    return value


def describe(digest: str, name: str, dtype: str, shape: tuple[int, ...], encoded: str) -> bytes:
    """Return what a checksum covers of one tensor besides its bytes."""
    return f"{digest}.{name} {dtype} {shape} {encoded}".encode()


def _parse(header: Mapping[str, Mapping[str, object]], *, begin: int, size: int) -> dict[str, Entry]:
    metadata = header["__metadata__"]
    end, parts = begin, dict[str, dict[str, Part]]()
    for key, tensor in header.items():
        if key == "__metadata__":
            continue
        digest, _, name = key.rpartition(".")
        start, stop = (begin + int(offset) for offset in tensor["data_offsets"])  # type: ignore[attr-defined]
        shape = tuple(int(length) for length in tensor["shape"])  # type: ignore[attr-defined]
        parts.setdefault(digest, {})[name] = Part(str(tensor["dtype"]), shape, start, stop)
        end = max(end, stop)
    if end != size:
        raise CacheError(f"it should have {end:,} bytes and has {size:,}")
    entries = {}
    for digest, own in parts.items():
        encoded, _, value = str(metadata[digest]).partition(" ")
        entries[digest] = Entry(own, encoded, int(value, 16))
    return entries


@dataclass(frozen=True)
class ModalityReport:
    """Features of one encoder: whose they are, number format kept, files and sizes, seconds since their last use."""

    folder: str
    modality: str
    distribution: str
    version: str
    kept_in: str
    num_sources: int
    num_shards: int
    num_bytes: int
    unused_s: float


@dataclass(frozen=True)
class CacheSummary:
    """What a cache folder holds."""

    modalities: tuple[ModalityReport, ...]  # by encoder
    num_bytes: int  # size of all files
    set_aside: tuple[str, ...]  # damaged shards and what killed writers left
    unreadable: dict[str, str]  # shards found damaged now, each with the reason


@dataclass(frozen=True)
class Damage:
    """A shard, or the features of one source in it, that cannot be used, and why."""

    file: str
    digest: str | None
    text: str


@dataclass(frozen=True)
class Eviction:
    """What was removed, or would be."""

    files: tuple[str, ...]
    num_bytes: int
    left_bytes: int


def folder_bytes(folder: Path) -> int:
    """Return the size of all files of a cache."""
    total = 0
    for path in folder.rglob("*"):
        with suppress(FileNotFoundError):  # a temporary file that took its place meanwhile
            total += path.stat().st_size if path.is_file() else 0
    return total


def summarize(folder: Path) -> CacheSummary:
    """Look at every header; raises `CacheError` when the folder is no cache."""
    require_cache(folder)
    modalities, unreadable = [], {}
    for place in sorted(path for path in (folder / FEATURES).glob("*") if path.is_dir()):
        digests: set[str] = set()
        shards = sorted(place.glob(f"*{SHARD}"))
        for path in shards:
            try:
                digests |= read_entries(path).keys()
            except CacheError as error:
                unreadable[_short(folder, path)] = str(error)
        identity = _identity(place)
        modalities.append(
            ModalityReport(
                folder=place.name,
                modality=str(identity.get("modality", place.name.rpartition("-")[0])),
                distribution=str(identity.get("distribution", "")),
                version=str(identity.get("version", "")),
                kept_in=str(identity.get("kept_in", "")),
                num_sources=len(digests),
                num_shards=len(shards),
                num_bytes=sum(path.stat().st_size for path in shards),
                # a clock that was set back makes files of the future
                unused_s=max(min((time.time() - path.stat().st_mtime for path in shards), default=0.0), 0.0),
            )
        )
    return CacheSummary(
        tuple(modalities), folder_bytes(folder), tuple(_short(folder, path) for path in _rubbish(folder)), unreadable
    )


def check(folder: Path) -> tuple[Counter[str], list[Damage]]:
    """Read every byte and compare the checksums.

    Returns:
        Numbers of intact entries by encoder's folder, and what is damaged.

    Raises:
        CacheError: when the folder is no cache.
    """
    require_cache(folder)
    intact: Counter[str] = Counter()
    damages = []
    for path in sorted((folder / FEATURES).glob(f"*/*{SHARD}")):
        name = _short(folder, path)
        try:
            entries = read_entries(path)
        except CacheError as error:
            damages.append(Damage(name, None, str(error)))
            continue
        for digest, fine in _verify(path, entries).items():
            if fine:
                intact[path.parent.name] += 1
            else:
                damages.append(Damage(name, digest, "its checksum is another than when it was written"))
    damages += [
        Damage(_short(folder, path), None, "set aside, or left by a killed writer") for path in _rubbish(folder)
    ]
    return intact, damages


def evict(
    folder: Path, *, older_than_s: float | None = None, max_bytes: int | None = None, damaged: bool = False, dry: bool
) -> Eviction:
    """Remove shards.

    Args:
        folder: a cache.
        older_than_s: remove those not used for so long.
        max_bytes: then remove the longest unused until the folder is not larger.
        damaged: remove shards that are damaged or set aside, and what killed writers left.
        dry: remove nothing, only say what would be.

    Raises:
        CacheError: when the folder is no cache.
    """
    require_cache(folder)
    now, size = time.time(), folder_bytes(folder)
    found = [(path, path.stat()) for path in (folder / FEATURES).glob(f"*/*{SHARD}")]
    shards = sorted(((path, stat) for path, stat in found), key=lambda entry: entry[1].st_mtime)
    chosen: dict[Path, int] = {}
    if damaged:
        broken = {folder / damage.file for damage in check(folder)[1]}
        chosen |= {path: path.stat().st_size for path in broken}
    if older_than_s is not None:
        chosen |= {path: stat.st_size for path, stat in shards if now - stat.st_mtime > older_than_s}
    for path, stat in shards:
        if max_bytes is None or size - sum(chosen.values()) <= max_bytes:
            break
        chosen[path] = stat.st_size
    if not dry:
        for path in chosen:
            path.unlink(missing_ok=True)
    removed = sum(chosen.values())
    return Eviction(tuple(sorted(_short(folder, path) for path in chosen)), removed, size - removed)


def _verify(path: Path, entries: Mapping[str, Entry]) -> dict[str, bool]:
    with (
        path.open("rb") as stream,
        mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as mapped,
        memoryview(mapped) as view,
    ):
        return {digest: checksum(digest, entry, view) == entry.checksum for digest, entry in entries.items()}


def _rubbish(folder: Path) -> list[Path]:
    """Return damaged shards set aside, and temporary files old enough to belong to nobody."""
    hidden = [path for path in folder.rglob(".*") if path.is_file()]
    abandoned = [path for path in hidden if time.time() - path.stat().st_mtime > ABANDONED_S]
    return sorted([*(folder / FEATURES).glob(f"*/*{SHARD}{DAMAGED}"), *abandoned])


def _identity(place: Path) -> dict[str, object]:
    try:
        found = read_json(place / IDENTITY)
    except ReadError:
        return {}  # only names in a table are missing then
    return found if isinstance(found, dict) else {}


def _short(folder: Path, path: Path) -> str:
    return path.relative_to(folder).as_posix()
