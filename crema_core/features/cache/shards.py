"""One shard: written whole, then only mapped into memory and read at random."""

from __future__ import annotations

import mmap
import os
import zlib
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor

from crema_core.common.atomic import new_file
from crema_core.errors import CacheError
from crema_core.features.cache.layout import Entry, checksum, describe, read_entries
from crema_core.features.cache.stored import StoredFeatures

DTYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "BOOL": torch.bool,
}
_SPELLED = {dtype: name for name, dtype in DTYPES.items()}


def write_shard(path: Path, entries: Mapping[str, StoredFeatures]) -> None:
    """Write features by digest of their source; the file appears when it is complete and on disk.

    Raises:
        OSError: when it cannot be written, for example on a full disk; nothing is left behind.
    """
    tensors: dict[str, Tensor] = {}
    metadata = {}
    for digest, entry in entries.items():
        parts = {"values": entry.values, "mask": entry.mask} | ({} if entry.times is None else {"times": entry.times})
        parts = {name: tensor.contiguous() for name, tensor in parts.items()}
        tensors |= {f"{digest}.{name}": tensor for name, tensor in parts.items()}
        encoded, value = str(entry.encoded).removeprefix("torch."), 0
        for name, tensor in sorted(parts.items()):
            value = zlib.crc32(describe(digest, name, _SPELLED[tensor.dtype], tuple(tensor.shape), encoded), value)
            value = zlib.crc32(tensor.reshape(-1).view(torch.uint8).numpy().data, value)
        metadata[digest] = f"{encoded} {value:08x}"
    with new_file(path) as temporary:
        try:
            save_file(tensors, temporary, metadata=metadata)
        except SafetensorError as error:  # how the library reports a full disk
            raise OSError(str(error)) from error


class MappedShard:
    """A shard mapped into memory; what is read stays in the system's page cache, not in this process.

    Args:
        path: the file.

    Raises:
        CacheError: when it is no whole shard.
        FileNotFoundError: when it is gone.
    """

    def __init__(self, path: Path) -> None:
        self.path, self.entries = path, read_entries(path)
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
        )

    def will_need(self, digest: str) -> None:
        """Ask the system to read an entry ahead."""
        parts = self.entries[digest].parts.values()
        start = min(part.start for part in parts) // mmap.PAGESIZE * mmap.PAGESIZE
        self._map.madvise(mmap.MADV_WILLNEED, start, max(part.stop for part in parts) - start)

    def _tensor(self, entry: Entry, name: str) -> Tensor:
        dtype, shape, start, stop = entry.parts[name]
        return self._bytes[start:stop].view(DTYPES[dtype]).reshape(shape)
