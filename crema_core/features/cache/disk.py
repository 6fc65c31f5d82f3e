"""A cache folder as a training or encoding process uses it: its stores, its digests and its limit."""

from __future__ import annotations

import json
import os
import warnings
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from crema_core.common.atomic import write_text
from crema_core.errors import CacheWarning
from crema_core.features.cache.digests import FileDigests
from crema_core.features.cache.identity import folder_name
from crema_core.features.cache.layout import FEATURES, FILES, IDENTITY, open_folder
from crema_core.features.cache.shards import write_shard
from crema_core.features.cache.store import FeatureStore
from crema_core.features.cache.stored import StoredFeatures
from crema_core.features.cache.survey import folder_bytes


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

    @property
    def stores(self) -> tuple[FeatureStore, ...]:
        """The stores in use."""
        return tuple(self._stores.values())

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
