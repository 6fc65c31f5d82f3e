"""Features of one encoder in a folder that many processes read and write at once.

Every writer adds shards of its own: written whole, then only mapped into memory and read at random. The index is the
headers of the shards found; newer shards come first, so a rebuilt entry hides the damaged one.

Shape letters: R sources, T steps, N tokens of a step, D feature width.
"""

from __future__ import annotations

import json
import mmap
import os
import time
import warnings
import zlib
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors.torch import save_file
from torch import Tensor

from crema_core.common.atomic import new_file, set_aside, write_text
from crema_core.common.known import to_device
from crema_core.common.tensors import padded_by_name, unpadded
from crema_core.errors import CacheError, CacheWarning
from crema_core.features.cache.folder import (
    DAMAGED,
    FEATURES,
    FILES,
    IDENTITY,
    SHARD,
    Entry,
    checksum,
    describe,
    folder_bytes,
    new_name,
    open_folder,
    read_entries,
)
from crema_core.features.cache.keys import FileDigests, folder_name
from crema_core.modality import Features

SHARD_BYTES = 64 * 2**20
MAX_UNWRITTEN_S = 60.0
MAX_MAPPED = 256  # each mapped file takes a file descriptor; systems allow about a thousand
DTYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "BOOL": torch.bool,
    "I64": torch.int64,
}
EXTRA = "extra-"
"""Start of the names of `Features.extras` in a shard."""
_SPELLED = {dtype: name for name, dtype in DTYPES.items()}


class DiskCache:
    """A cache folder, made when it is not there.

    Args:
        folder: new, empty, or a cache already.
        limit_bytes: size of the whole folder at which writing stops; nothing is ever deleted to make room. Processes
            that write at once may exceed it by one shard each.

    Attributes:
        full: whether writing has stopped.

    Raises:
        CacheError: when the folder is something else or cannot be made.
    """

    def __init__(self, folder: str | os.PathLike[str], *, limit_bytes: float = float("inf")) -> None:
        self.folder, self.limit_bytes, self.full = Path(folder), limit_bytes, False
        open_folder(self.folder)
        self.files = FileDigests(self.folder / FILES)
        self._stores: dict[str, FeatureStore] = {}

    def store(self, identity: dict[str, Any]) -> FeatureStore:
        """Return the features of one encoder, see `encoder_identity`."""
        name = folder_name(identity)
        if name not in self._stores:
            self._stores[name] = FeatureStore(self.folder / FEATURES / name, write=partial(self._write, identity))
        return self._stores[name]

    def _write(self, identity: dict[str, Any], path: Path, entries: Mapping[str, StoredFeatures]) -> bool:
        """Write a shard if there is room; say once why not."""
        if self.full:
            return False
        size = folder_bytes(self.folder)
        if size + sum(entry.num_bytes for entry in entries.values()) > self.limit_bytes:
            self._stop(
                f"is full: it holds {size / 1e9:.3g} GB of the {self.limit_bytes / 1e9:g} GB allowed. Nothing more is "
                "written to it and nothing is deleted. Allow more, or make room with: crema cache evict "
                f"{self.folder} --older-than 30d"
            )
            return False
        try:
            if not (path.parent / IDENTITY).is_file():
                write_text(path.parent / IDENTITY, json.dumps(identity, indent=2) + "\n")
            write_shard(path, entries)
        except OSError as error:
            self._stop(
                f"cannot be written: {error.strerror or error}. What it holds is used, and nothing more is written to "
                "it. Make room or make it writable, or name another cache folder."
            )
            return False
        return True

    def _stop(self, why: str) -> None:
        self.full = True
        warnings.warn(f"The feature cache '{self.folder}' {why}", CacheWarning, stacklevel=2)


class FeatureStore:
    """Features by digest of their source file.

    Args:
        folder: of one encoder; made when it is first written to.
        write: writes a shard, or returns False where nothing more may or can be written.
        shard_bytes: size at which a shard is closed.
        max_unwritten_s: age in seconds at which a shard is closed, whatever its size; what a killed process loses.

    Attributes:
        written_bytes: size of the shards written by this object.
        unwritten: features that are not on disk yet, or cannot be written, by digest of their source.
        unwritten_bytes: memory they take.
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
        self._headers: dict[Path, dict[str, Entry]] = {}  # of shards that were mapped once; they never change
        self._verified: set[str] = set()
        self.unwritten: dict[str, StoredFeatures] = {}
        self.unwritten_bytes, self._unwritten_since = 0, 0.0
        self.scan()

    def __contains__(self, digest: str) -> bool:
        return digest in self.unwritten or bool(self._places.get(digest))

    def __len__(self) -> int:
        return len({digest for digest, places in self._places.items() if places} | self.unwritten.keys())

    def scan(self) -> None:
        """Take up the shards that appeared since the last scan, of whatever process."""
        for path in sorted(self.folder.glob(f"*{SHARD}")):
            if path not in self._scanned:
                self._scanned.add(path)
                with suppress(FileNotFoundError):  # evicted by another process
                    self._take_up(path)

    def add(self, digest: str, entry: StoredFeatures) -> None:
        """Keep features; they reach the disk with their shard, see `flush`."""
        if not self.unwritten:
            self._unwritten_since = time.monotonic()
        if digest not in self.unwritten:
            self.unwritten_bytes += entry.num_bytes
        self.unwritten[digest] = entry
        age = time.monotonic() - self._unwritten_since
        if self.unwritten_bytes >= self._shard_bytes or age >= self._max_unwritten_s:
            self.flush()

    def flush(self) -> None:
        """Write what is not on disk yet. Where nothing more may or can be written it stays in memory."""
        if not self.unwritten:
            return
        path = self.folder / f"{new_name(self.folder)}{SHARD}"
        if not self._write(path, self.unwritten):
            return
        self._scanned.add(path)
        for digest in self.unwritten:
            self._places.setdefault(digest, []).append(path)
        self._verified |= self.unwritten.keys()
        self.written_bytes += path.stat().st_size
        self.unwritten, self.unwritten_bytes = {}, 0

    def get(self, digest: str) -> StoredFeatures | None:
        """Return features, or None when there are none or only damaged ones, which is warned of once."""
        if digest in self.unwritten:
            return self.unwritten[digest]
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
        if digest not in self.unwritten and (places := self._places.get(digest)):
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
            shard = self._mapped[path] = MappedShard(path, self._headers.get(path))
            self._headers[path] = shard.entries
            if len(self._mapped) > MAX_MAPPED:
                self._mapped.popitem(last=False)
        self._mapped.move_to_end(path)
        return shard


def write_shard(path: Path, entries: Mapping[str, StoredFeatures]) -> None:
    """Write features by digest of their source; the file appears when it is complete and on disk.

    Raises:
        WriteError: when it cannot be written, for example on a full disk; nothing is left behind.
    """
    tensors: dict[str, Tensor] = {}
    metadata = {}
    for digest, entry in entries.items():
        parts = {name: tensor.contiguous() for name, tensor in entry.parts().items()}
        tensors |= {f"{digest}.{name}": tensor for name, tensor in parts.items()}
        encoded, value = str(entry.encoded).removeprefix("torch."), 0
        for name, tensor in sorted(parts.items()):
            value = zlib.crc32(describe(digest, name, _SPELLED[tensor.dtype], tuple(tensor.shape), encoded), value)
            value = zlib.crc32(tensor.reshape(-1).view(torch.uint8).numpy().data, value)
        metadata[digest] = f"{encoded} {value:08x}"
    with new_file(path) as temporary:
        save_file(tensors, temporary, metadata=metadata)


class MappedShard:
    """A shard mapped into memory; what is read stays in the system's page cache, not in this process.

    Args:
        path: the file.
        entries: what its header says, where that was read before.

    Raises:
        CacheError: when it is no whole shard.
        FileNotFoundError: when it is gone.
    """

    def __init__(self, path: Path, entries: dict[str, Entry] | None = None) -> None:
        self.path, self.entries = path, read_entries(path) if entries is None else entries
        with path.open("rb") as stream:
            # A private copy that is never written: torch refuses to share read-only memory without a warning.
            self._map = mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_COPY)
        self._bytes = torch.frombuffer(self._map, dtype=torch.uint8)
        with suppress(OSError):  # a cache that can only be read is used all the same
            os.utime(path)  # the time of last use, by which `crema cache evict` chooses

    def read(self, digest: str, *, verify: bool) -> StoredFeatures:
        """Return features as views of the file.

        Args:
            digest: of the source; must be in `entries`.
            verify: compare the checksum first.

        Raises:
            CacheError: when the checksum is another.
        """
        entry = self.entries[digest]
        if verify and checksum(digest, entry, memoryview(self._map)) != entry.checksum:
            raise CacheError("its checksum is another than when it was written")
        return StoredFeatures(
            self._tensor(entry, "values"),
            self._tensor(entry, "mask"),
            self._tensor(entry, "times") if "times" in entry.parts else None,
            getattr(torch, entry.encoded),
            {name.removeprefix(EXTRA): self._tensor(entry, name) for name in entry.parts if name.startswith(EXTRA)},
        )

    def will_need(self, digest: str) -> None:
        """Ask the system to read an entry ahead."""
        parts = self.entries[digest].parts.values()
        start = min(part.start for part in parts) // mmap.PAGESIZE * mmap.PAGESIZE
        self._map.madvise(mmap.MADV_WILLNEED, start, max(part.stop for part in parts) - start)

    def _tensor(self, entry: Entry, name: str) -> Tensor:
        dtype, shape, start, stop = entry.parts[name]
        return self._bytes[start:stop].view(DTYPES[dtype]).reshape(shape)


class StoredFeatures(NamedTuple):
    """Features of one source without padding, on the CPU where a cache keeps them."""

    values: Tensor  # `(T, N, D)`, perhaps rounded to a smaller number format
    mask: Tensor  # `(T,)` or `(T, N)` bool
    times: Tensor | None  # `(T, 2)` seconds, or None
    encoded: torch.dtype  # number format the encoder returned, in which batches are handed out
    extras: Mapping[str, Tensor] = {}  # see `Features.extras`; int64 or float64

    def parts(self) -> dict[str, Tensor]:
        """Return the tensors by their names in a shard."""
        found = {"values": self.values, "mask": self.mask} | ({} if self.times is None else {"times": self.times})
        return found | {f"{EXTRA}{name}": extra for name, extra in self.extras.items()}

    @property
    def num_bytes(self) -> int:
        """Bytes the tensors take."""
        return sum(tensor.nbytes for tensor in self.parts().values())


def split(features: Features, *, dtype: torch.dtype | None, keeps_device: bool = False) -> list[StoredFeatures]:
    """Cut the features of R sources to each one's own length.

    Args:
        features: padded, as an encoder returned them.
        dtype: number format to keep; None: as encoded.
        keeps_device: leave them where they are instead of bringing them to the CPU.
    """
    encoded = features.values.dtype
    device = features.values.device if keeps_device else torch.device("cpu")
    values_RTND = features.values.to(dtype or encoded).to(device)
    mask = features.mask.to(device)
    times = None if features.times is None else features.times.to(device)
    extras = {name: extra.to(device) for name, extra in features.extras.items()}
    return [
        _cut(values_RTND[row], mask[row], None if times is None else times[row], encoded)._replace(
            extras={name: own for name, extra in extras.items() if (own := unpadded(extra[row])).numel()}
        )
        for row in range(len(values_RTND))
    ]


def pad(entries: Sequence[StoredFeatures], *, device: torch.device) -> Features:
    """Return the features of R sources as one batch, padded with zeros.

    Times are there when a source has them, NaN for the others; the mask is of tokens where any source needs that.
    """
    steps = max(entry.values.shape[0] for entry in entries)
    tokens = max(entry.values.shape[1] for entry in entries)
    width = entries[0].values.shape[2]
    # A mask of steps is enough as long as all sources have equally many tokens in a step.
    per_token = any(entry.mask.dim() == 2 or entry.values.shape[1] != tokens for entry in entries)
    place = entries[0].values.device
    values_RTND = torch.zeros(len(entries), steps, tokens, width, dtype=entries[0].encoded, device=place)
    mask = torch.zeros(values_RTND.shape[:3] if per_token else values_RTND.shape[:2], dtype=torch.bool, device=place)
    clocked = any(entry.times is not None for entry in entries)
    times_RT2 = torch.zeros(len(entries), steps, 2, device=place) if clocked else None
    for row, entry in enumerate(entries):
        t, n, _ = entry.values.shape
        values_RTND[row, :t, :n] = entry.values
        if per_token:
            mask[row, :t, :n] = entry.mask if entry.mask.dim() == 2 else entry.mask[:, None]
        else:
            mask[row, :t] = entry.mask
        if times_RT2 is not None:
            times_RT2[row, :t] = torch.nan if entry.times is None else entry.times
    extras = padded_by_name([entry.extras for entry in entries])
    return Features(
        values_RTND.to(device),
        to_device(mask, device),
        None if times_RT2 is None else to_device(times_RT2, device),
        {name: to_device(extra, device) for name, extra in extras.items()},
    )


def _cut(values_TND: Tensor, mask: Tensor, times_T2: Tensor | None, encoded: torch.dtype) -> StoredFeatures:
    steps = mask if mask.dim() == 1 else mask.any(1)
    t = int(steps.nonzero().max()) + 1
    # Clones, because a view would keep the whole padded batch in memory.
    times = None if times_T2 is None or bool(times_T2[:t].isnan().all()) else times_T2[:t].clone()
    if mask.dim() == 1:
        return StoredFeatures(values_TND[:t].clone(), mask[:t].clone(), times, encoded)
    n = int(mask.any(0).nonzero().max()) + 1
    return StoredFeatures(values_TND[:t, :n].clone(), mask[:t, :n].clone(), times, encoded)
