"""Names and marker of a cache folder, and the header of a shard. Torch-free, so `crema cache` answers at once.

A shard is an ordinary safetensors file. Features of the file with digest D are the tensors `D.values` `(T, N, D)`,
`D.mask` `(T,)` or `(T, N)` and, where they have a clock, `D.times` `(T, 2)`; the header's metadata hold for D the
number format the encoder returned and a checksum over everything that is kept for D.
"""

from __future__ import annotations

import json
import secrets
import time
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from crema_core.common.atomic import write_text
from crema_core.errors import CacheError

MARKER, FEATURES, FILES, IDENTITY = "crema-cache.json", "features", "files", "identity.json"
SHARD, DAMAGED = ".safetensors", ".damaged"
FORMAT = 1
_LENGTH_BYTES = 8
_MAX_HEADER_BYTES = 100_000_000  # the limit of the safetensors format


class Part(NamedTuple):
    """Where one tensor lies in a shard: dtype as safetensors spells it, shape, first and last byte in the file."""

    dtype: str
    shape: tuple[int, ...]
    start: int
    stop: int


class Entry(NamedTuple):
    """What a shard says about the features of one source.

    Attributes:
        parts: "values", "mask" and perhaps "times".
        encoded: number format the encoder returned, for example "float32".
        checksum: of all of this and the bytes.
    """

    parts: dict[str, Part]
    encoded: str
    checksum: int

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
    """Raise unless a folder is a cache of this format.

    Raises:
        CacheError: saying what it is instead.
    """
    try:
        found = json.loads((folder / MARKER).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CacheError(
            f"'{folder}' is no feature cache (its {MARKER} cannot be read). Accepted: a folder that crema encode, or "
            "fit with cache=DIR, wrote. Check the path. Nothing was changed."
        ) from error
    if not isinstance(found, dict) or found.get("format") != FORMAT:
        raise CacheError(
            f"The feature cache '{folder}' has another format than {FORMAT}. This version reads and writes format "
            f"{FORMAT} only. Name another folder. Nothing was changed."
        )


def new_name() -> str:
    """Return a file name no other writer has; later ones sort behind earlier ones."""
    return f"{time.time_ns():020d}-{secrets.token_hex(4)}"


def read_entries(path: Path) -> dict[str, Entry]:
    """Read the header of a shard; the bytes behind it are not looked at.

    Raises:
        CacheError: for a file that is not a whole shard, saying how one sees it.
        FileNotFoundError: when it is gone, for example evicted by another process.
    """
    try:
        with path.open("rb") as stream:
            size = path.stat().st_size
            length = int.from_bytes(stream.read(_LENGTH_BYTES), "little")
            if not 2 <= length <= min(size, _MAX_HEADER_BYTES):
                raise CacheError("it has no header")
            return _parse(json.loads(stream.read(length)), begin=_LENGTH_BYTES + length, size=size)
    except (ValueError, LookupError, TypeError, AttributeError) as error:
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
