"""What features are kept under: the digest of a media file, and the identity of an encoder.

A file is read once; its digest is noted with size, times and inode, and believed as long as these stay. Notes are lines
of journals, one journal per writer, each line with a checksum; a line that was cut off by a crash is skipped. Losing
notes costs reading files again, nothing else.

An identity is all that features depend on besides the file: when any of it changes, they are encoded anew. It names the
folder of one encoder's features. The code that prepares and encodes is part of it, not only the package's version, so
that an author who edits a modality never trains on the features of yesterday's code.
"""

from __future__ import annotations

import hashlib
import inspect
import json
import re
import sys
import time
import zlib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch

import crema_core.modality
from crema_core.common.reading import ABSENT, obstacle, obstacle_of_source, parse_json
from crema_core.data import media
from crema_core.data.sampling import split_span
from crema_core.errors import CacheError, MediaError
from crema_core.features.cache.folder import FORMAT, new_name
from crema_core.modality import Modality
from crema_core.model.network import CremaNetwork
from crema_core.model.precision import computed_in
from crema_core.model.trainable import fingerprint

Source = str | Sequence[str]
Stamp = tuple[int, int, int, int]
JOURNAL = ".jsonl"
_DIGEST = re.compile("[0-9a-f]{64}")
# A file changed again within the clock's resolution keeps its time stamp, so the digest of a file just written is used
# but not noted (git calls such entries "racily clean").
SETTLED_NS = 2_000_000_000


class FileDigests:
    """Digests by path; the folder of the journals is made when the first note is written."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._journal = folder / f"{new_name(folder)}{JOURNAL}"
        self._notes: dict[str, tuple[Stamp, str]] = {}
        self._sources: dict[str | tuple[str, ...], str] = {}
        for path in sorted(folder.glob(f"*{JOURNAL}")):
            with suppress(OSError):  # tidied up by another process, or not ours to read
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
        if (reason := obstacle_of_source(path)) is not None and reason != ABSENT:
            raise MediaError(
                f"'{path}' {reason}. Its content is needed to find its kept features, and read to its end. Check the "
                "path, or name a file."
            )
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
            text = json.dumps([place, *stamp, found]).encode()
            with suppress(OSError):  # a cache that can only be read
                self.folder.mkdir(parents=True, exist_ok=True)
                # One write of one line: lines of threads do not mix.
                with self._journal.open("ab", buffering=0) as stream:
                    stream.write(b"%08x %s\n" % (zlib.crc32(text), text))
        return found


def read_notes(path: Path) -> dict[str, tuple[Stamp, str]]:
    """Read a journal, leaving out lines that are not whole, and those of another content than is written here."""
    notes: dict[str, tuple[Stamp, str]] = {}
    if obstacle(path) not in (None, ABSENT):
        return {}
    for line in path.read_bytes().splitlines():
        value, _, text = line.partition(b" ")
        if value == b"%08x" % zlib.crc32(text) and (note := _note(text)) is not None:
            notes[note[0]] = note[1:]
    return notes


def _note(text: bytes) -> tuple[str, Stamp, str] | None:
    """Return path, stamp and digest of a note; None where the line holds something else.

    Its checksum shows that nothing was cut off, not who wrote it.
    """
    try:
        place, size, changed, altered, inode, digest = parse_json(text)
    except (ValueError, TypeError):
        return None
    stamp = (size, changed, altered, inode)
    fits = isinstance(place, str) and isinstance(digest, str) and _DIGEST.fullmatch(digest)
    return (place, stamp, digest) if fits and all(type(number) is int for number in stamp) else None


def _stamp(path: Path) -> Stamp:
    found = path.stat()
    return found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_ino


def encoder_identity(model: CremaNetwork, name: str, *, kept: torch.dtype | None) -> dict[str, Any]:
    """Return all that the features of one modality depend on, as JSON data.

    Args:
        model: a built model, on the device and in the number format its encoders run in now.
        name: the modality.
        kept: number format in which features are kept; None: as encoded.

    Raises:
        CacheError: when the modality's code cannot be read.
    """
    branch = model.branch(name)
    backbone = model.backbone
    return {
        "format": FORMAT,
        "modality": name,
        "class": branch.spec.factory,
        "distribution": branch.provenance.distribution,
        "version": branch.provenance.version,
        "api_version": branch.provenance.api_version,
        "options": branch.modality.options.model_dump(mode="json"),
        "width": branch.modality.feature_dim,
        "images": [backbone.image_size, *backbone.image_mean, *backbone.image_std],
        "code": code_digest(type(branch.modality)),
        "weights": _weights(branch.modality),
        "vision": backbone.sight() if branch.modality.uses_backbone else None,
        "computed_in": computed_in(model.device),
        "kept_in": "as encoded" if kept is None else str(kept).removeprefix("torch."),
    }


def folder_name(identity: dict[str, Any]) -> str:
    """Return the name of the folder of these features."""
    text = json.dumps(identity, sort_keys=True)
    return f"{identity['modality']}-{hashlib.sha256(text.encode()).hexdigest()[:16]}"


def code_digest(factory: type[Modality]) -> str:
    """Return a sha256 of the source code of a modality's package, of its bases' and of core's media readers.

    Raises:
        CacheError: for a class whose source code cannot be found.
    """
    files = {Path(inspect.getfile(crema_core.modality))}
    for owner in factory.__mro__:
        if owner is Modality:
            break
        files |= _package_files(owner)
    readers = {getattr(getattr(media, name), "__module__", "") for name in media.__all__}
    files |= {Path(inspect.getfile(sys.modules[name])) for name in readers if name.startswith("crema_core.data.")}
    lines = sorted(f"{path.name} {hashlib.sha256(path.read_bytes()).hexdigest()}" for path in files)
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def _package_files(owner: type) -> set[Path]:
    """Return the files of the distribution a class comes from; of core, those of its room alone."""
    try:
        file = Path(inspect.getfile(owner))
    except (OSError, TypeError) as error:
        raise CacheError(
            f"The code of '{owner.__name__}' cannot be found, so nobody can tell later whether kept features are still "
            "its own. A modality kept on disk is defined in a file. Move the class into a module, or pass "
            "cache='memory'."
        ) from error
    parts = owner.__module__.split(".")
    if len(parts) == 1 and file.name != "__init__.py":
        return {file}
    levels = 0 if parts[0] == "crema_core" else len(parts) - (1 if file.name == "__init__.py" else 2)
    return set(file.parents[levels].rglob("*.py"))


def _weights(modality: Modality) -> str:
    """Return a sha256 of the encoder's own weights and buffers, also of those that checkpoints leave out."""
    digest = hashlib.sha256(fingerprint(modality).encode())
    saved = modality.state_dict()
    for name, buffer in sorted(modality.named_buffers()):
        if name not in saved:
            digest.update(f"{name}:{tuple(buffer.shape)}:{buffer.dtype}".encode())
            digest.update(buffer.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
