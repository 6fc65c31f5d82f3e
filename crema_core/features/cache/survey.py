"""What a cache folder holds, whether it is intact, and making room on request. Torch-free.

Nothing here is called by training: a cache is only ever emptied by a person who says so, a whole shard at a time and
longest unused first.
"""

from __future__ import annotations

import json
import mmap
import time
from collections import Counter
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from crema_core.errors import CacheError
from crema_core.features.cache.layout import (
    DAMAGED,
    FEATURES,
    IDENTITY,
    SHARD,
    Entry,
    checksum,
    read_entries,
    require_cache,
)

ABANDONED_S = 3600.0
"""Age at which a hidden temporary file is what a killed writer left; writing one takes seconds."""


@dataclass(frozen=True)
class SenseReport:
    """Features of one encoder.

    Attributes:
        folder: name inside the cache.
        sense, distribution, version: whose they are.
        kept_in: number format of what is kept.
        num_sources: sources whose features are there.
        num_shards, num_bytes: files and their size.
        unused_s: seconds since the features were last used.
    """

    folder: str
    sense: str
    distribution: str
    version: str
    kept_in: str
    num_sources: int
    num_shards: int
    num_bytes: int
    unused_s: float


@dataclass(frozen=True)
class Survey:
    """What a cache folder holds.

    Attributes:
        senses: by encoder.
        num_bytes: size of all files.
        set_aside: damaged shards and what killed writers left.
        unreadable: shards found damaged now, each with the reason.
    """

    senses: tuple[SenseReport, ...]
    num_bytes: int
    set_aside: tuple[str, ...]
    unreadable: dict[str, str]


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


def survey(folder: Path) -> Survey:
    """Look at every header.

    Raises:
        CacheError: when the folder is no cache.
    """
    require_cache(folder)
    senses, unreadable = [], {}
    for place in sorted(path for path in (folder / FEATURES).glob("*") if path.is_dir()):
        digests: set[str] = set()
        shards = sorted(place.glob(f"*{SHARD}"))
        for path in shards:
            try:
                digests |= read_entries(path).keys()
            except CacheError as error:
                unreadable[_short(folder, path)] = str(error)
        identity = _identity(place)
        senses.append(
            SenseReport(
                folder=place.name,
                sense=str(identity.get("sense", place.name.rpartition("-")[0])),
                distribution=str(identity.get("distribution", "")),
                version=str(identity.get("version", "")),
                kept_in=str(identity.get("kept_in", "")),
                num_sources=len(digests),
                num_shards=len(shards),
                num_bytes=sum(path.stat().st_size for path in shards),
                unused_s=min((time.time() - path.stat().st_mtime for path in shards), default=0.0),
            )
        )
    return Survey(
        tuple(senses), folder_bytes(folder), tuple(_short(folder, path) for path in _rubbish(folder)), unreadable
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
        found = json.loads((place / IDENTITY).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}  # only names in a table are missing then
    return found if isinstance(found, dict) else {}


def _short(folder: Path, path: Path) -> str:
    return path.relative_to(folder).as_posix()
