"""Features of one encoder in a folder that many processes read and write at once.

Every writer adds shards of its own; the index is the headers of the shards found. Newer shards come first, so a
rebuilt entry hides the damaged one.
"""

from __future__ import annotations

import time
import warnings
from collections import OrderedDict
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path

from crema_core.common.atomic import set_aside
from crema_core.errors import CacheError, CacheWarning
from crema_core.features.cache.layout import DAMAGED, SHARD, new_name, read_entries
from crema_core.features.cache.shards import MappedShard
from crema_core.features.cache.stored import StoredFeatures

SHARD_BYTES = 64 * 2**20
MAX_UNWRITTEN_S = 60.0
MAX_MAPPED = 256  # each mapped file takes a file descriptor; systems allow about a thousand


class FeatureStore:
    """Features by digest of their source file.

    Args:
        folder: of one encoder; made when it is first written to.
        write: writes a shard, or returns False where nothing more may or can be written.
        shard_bytes: size at which a shard is closed.
        max_unwritten_s: age in seconds at which a shard is closed, whatever its size; what a killed process loses.

    Attributes:
        written_bytes: size of the shards written by this object.
    """

    def __init__(
        self,
        folder: Path,
        *,
        write: Callable[[Path, Mapping[str, StoredFeatures]], bool],
        shard_bytes: int = SHARD_BYTES,
        max_unwritten_s: float = MAX_UNWRITTEN_S,
    ) -> None:
        self.folder, self.written_bytes = folder, 0
        self._write, self._shard_bytes, self._max_unwritten_s = write, shard_bytes, max_unwritten_s
        self._places: dict[str, list[Path]] = {}
        self._scanned: set[Path] = set()
        self._mapped: OrderedDict[Path, MappedShard] = OrderedDict()
        self._verified: set[str] = set()
        self._unwritten: dict[str, StoredFeatures] = {}
        self._unwritten_bytes, self._unwritten_since = 0, 0.0
        self.scan()

    def __contains__(self, digest: str) -> bool:
        return digest in self._unwritten or bool(self._places.get(digest))

    def __len__(self) -> int:
        return len({digest for digest, places in self._places.items() if places} | self._unwritten.keys())

    @property
    def num_unwritten(self) -> int:
        """Number of sources whose features are not on disk yet, or cannot be written."""
        return len(self._unwritten)

    @property
    def unwritten_bytes(self) -> int:
        """Memory taken by features that are not on disk yet, or cannot be written."""
        return self._unwritten_bytes

    def scan(self) -> None:
        """Take up the shards that appeared since the last scan, of whatever process."""
        for path in sorted(self.folder.glob(f"*{SHARD}")):
            if path not in self._scanned:
                self._scanned.add(path)
                with suppress(FileNotFoundError):  # evicted by another process
                    self._take_up(path)

    def add(self, digest: str, entry: StoredFeatures) -> None:
        """Keep features; they reach the disk with their shard, see `flush`."""
        if not self._unwritten:
            self._unwritten_since = time.monotonic()
        if digest not in self._unwritten:
            self._unwritten_bytes += entry.num_bytes
        self._unwritten[digest] = entry
        age = time.monotonic() - self._unwritten_since
        if self.unwritten_bytes >= self._shard_bytes or age >= self._max_unwritten_s:
            self.flush()

    def flush(self) -> None:
        """Write what is not on disk yet. Where nothing more may or can be written it stays in memory."""
        path = self.folder / f"{new_name()}{SHARD}"
        if not self._unwritten or not self._write(path, self._unwritten):
            return
        self._scanned.add(path)
        for digest in self._unwritten:
            self._places.setdefault(digest, []).append(path)
        self._verified |= self._unwritten.keys()
        self.written_bytes += path.stat().st_size
        self._unwritten, self._unwritten_bytes = {}, 0

    def get(self, digest: str) -> StoredFeatures | None:
        """Return features, or None when there are none or only damaged ones, which is warned of once."""
        if digest in self._unwritten:
            return self._unwritten[digest]
        places = self._places.get(digest, [])
        while places:
            path = places[-1]
            try:
                found = self._open(path).read(digest, verify=digest not in self._verified)
            except FileNotFoundError:
                places.pop()  # evicted by another process
            except CacheError as error:
                places.pop()
                warnings.warn(
                    f"Kept features of one source in '{path.name}' are damaged: {error}. They are encoded again. See "
                    f"all damage with: crema cache check {self.folder.parents[1]}",
                    CacheWarning,
                    stacklevel=2,
                )
            else:
                self._verified.add(digest)
                return found
        return None

    def will_need(self, digest: str) -> None:
        """Let the system read an entry ahead, when it is on disk and intact so far."""
        if digest not in self._unwritten and (places := self._places.get(digest)):
            with suppress(FileNotFoundError, CacheError):  # told by `get`
                self._open(places[-1]).will_need(digest)

    def _take_up(self, path: Path) -> None:
        try:
            entries = read_entries(path)
        except CacheError as error:
            warnings.warn(
                f"The shard '{path.name}' of the feature cache is damaged: {error}. It is set aside as "
                f"'{path.name}{DAMAGED}', and what it held is encoded again when it is needed.",
                CacheWarning,
                stacklevel=2,
            )
            with suppress(OSError):  # a cache that can only be read, or another process was first
                set_aside(path, suffix=DAMAGED)
            return
        for digest in entries:
            self._places.setdefault(digest, []).append(path)

    def _open(self, path: Path) -> MappedShard:
        shard = self._mapped.get(path)
        if shard is None:
            shard = self._mapped[path] = MappedShard(path)
            if len(self._mapped) > MAX_MAPPED:
                self._mapped.popitem(last=False)
        self._mapped.move_to_end(path)
        return shard
