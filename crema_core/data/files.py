"""Checks on a media file before it is decoded, and the errors every reader raises.

Kept apart from decoding so that every reader refuses an absent, empty or wrongly typed file with the same words.
"""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Iterable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from crema_core.common.reading import ABSENT, obstacle, shown
from crema_core.data.sampling import Span, loose_part, split_span
from crema_core.errors import MediaError, first_line

AGAIN = "Write or download the file again."
OTHER_TYPE = "Give the file the ending of what it holds, or convert it."
OTHER_CONTENT = {
    "a pointer of Git LFS": "Run: git lfs pull",
    "an HEIC picture": "Convert it to jpg or png.",
    "a web page": "Download the file again; the address gave a page.",
    "zeros only": AGAIN,
}
"""What to do about contents that no converter helps with."""
_SIGNATURES = {
    b"\x89PNG\r\n\x1a\n": "a PNG picture",
    b"\xff\xd8\xff": "a JPEG picture",
    b"GIF8": "a GIF picture",
    b"II*\x00": "a TIFF picture",
    b"MM\x00*": "a TIFF picture",
    b"II+\x00": "a TIFF picture",
    b"MM\x00+": "a TIFF picture",
    b"BM": "a BMP picture",
    b"\x00\x00\x00\x0cjP  ": "a JPEG 2000 picture",
    b"P5": "a PNM picture",
    b"P6": "a PNM picture",
    b"Pf": "a PFM map",
    b"PF": "a PFM map",
    b"RIFF": "a RIFF file",
    b"\x93NUMPY": "a numpy array",
    b"PK\x03\x04": "a zip archive",
    b"\x1f\x8b": "a gzip archive",
    b"v/1\x01": "an OpenEXR file",
    b"ply": "a ply file",
    b"LASF": "a laser scan",
    b"# .PCD": "a pcd file",
    b"ASTM-E57": "an E57 scan",
    b"PIEH": "a flo field",
    b"\x89HDF\r\n\x1a\n": "an HDF5 file",
    b"MATLAB 5.0": "a MATLAB file",
    b"%PDF": "a PDF document",
    b"OggS": "an Ogg file",
    b"fLaC": "a FLAC sound",
    b"ID3": "an MP3 sound",
    b"\x1aE\xdf\xa3": "a Matroska or WebM clip",
    b"version https://git-lfs": "a pointer of Git LFS",
}
_RIFF = {b"WEBP": "a WebP picture", b"WAVE": "a WAV sound", b"AVI ": "an AVI clip"}
_BRANDS = {
    **dict.fromkeys((b"heic", b"heix", b"hevc", b"mif1", b"msf1"), "an HEIC picture"),
    **dict.fromkeys((b"avif", b"avis"), "an AVIF picture"),
}
_ENDS = {
    "a PNG picture": b"IEND",
    "a JPEG picture": b"\xff\xd9",
    "a GIF picture": b"\x3b",
    "a zip archive": b"PK\x05\x06",
}
_TAIL = 1 << 16  # a zip archive's end mark may have a comment behind it, a jpeg what its camera appended


def check_file(path: str | os.PathLike[str], *, what: str, suffixes: Iterable[str]) -> Path:
    """Return `path` when it is a non-empty file of an accepted type.

    Args:
        path: the file.
        what: the kind of source with its article, for messages: "a clip".
        suffixes: accepted endings, lower case with the dot.

    Raises:
        MediaError: when the file is absent, a folder, empty or of another type.
    """
    path = Path(path)
    accepted = accepts(what, suffixes)
    if (reason := obstacle(path)) is not None:
        if path.is_dir():
            raise MediaError(f"{shown(path)} is a folder. {accepted} Name a file inside it.")
        if reason != ABSENT:
            raise MediaError(f"{shown(path)} {reason}. {accepted} Check the path, or name a file.")
        raise absent(path, accepted)
    if path.suffix.lower() not in suffixes:
        ending = f"ends in '{path.suffix}'" if path.suffix else "has no ending"
        raise MediaError(f"'{path}' {ending}. {accepted} Convert the file, or pass its values as an array.")
    if path.stat().st_size == 0:
        raise MediaError(f"'{path}' is empty (0 bytes). {accepted} Write or download the file again.")
    return path


def absent(path: Path, accepted: str) -> MediaError:
    """Return the error for a file that is not there; `#t=...` behind one that is there is a part nobody can take.

    Args:
        path: the file, perhaps with a part behind it that the reader did not take away.
        accepted: which files are read, a sentence.
    """
    file, part = loose_part(str(path))
    if not part or not Path(file).exists():
        return MediaError(f"'{path}' does not exist. {accepted} Check the path.")
    if split_span(str(path)).path == file:
        return MediaError(
            f"'{path}' names a part of a file that is read as a whole. Parts in seconds are taken of clips and sounds. "
            f"Name the file alone: {file}"
        )
    return MediaError(
        f"'{path}' names a part that cannot be read: '{part}'. Parts are seconds from the beginning of a file, "
        f"START,END, and either may be left out. Write {Span(file, 62.0, 90.5).text}, for example."
    )


def accepts(what: str, suffixes: Iterable[str]) -> str:
    """Return the sentence that states which file endings are read: "A clip is read from .mp4, .webm."."""
    return f"{what[0].upper()}{what[1:]} is read from {', '.join(suffixes)}."


def damaged(path: Path, cause: str, *, what: str, suffixes: Iterable[str], advice: str = AGAIN) -> MediaError:
    """Return the error for a file that exists but cannot be decoded; raise it `from` the decoder's own error.

    Args:
        path: the file.
        cause: what was found, without a full stop.
        what: the kind of source with its article, for messages: "a clip".
        suffixes: accepted endings.
        advice: what to do, a sentence; a file that is whole is not written again.
    """
    return MediaError(f"'{path}' cannot be read: {cause}. {accepts(what, suffixes)} {advice}")


def unreadable(
    path: Path,
    error: BaseException,
    *,
    library: str,
    holds: Collection[str],
    what: str,
    suffixes: Iterable[str],
    convert: str,
    unsupported: bool = False,
) -> MediaError:
    """Return the error for a file a library failed on: of another type, not supported, cut short or damaged.

    Args:
        path: the file.
        error: what the library raised.
        library: its name, for the message; empty where the reader is this project's own.
        holds: what such a file holds, as `content_of` names it; anything else that is recognised is another type.
        what: the kind of source with its article, for messages: "a picture".
        suffixes: accepted endings.
        convert: what to do with a whole file that the library does not support, a sentence.
        unsupported: whether the library said so.
    """
    said = first_line(error)
    words, by = (f"{library}: {said}", f" ({library})") if library else (said, "")
    found = content_of(path)
    if isinstance(error, MemoryError):
        cause, advice = "what it announces does not fit into the memory", AGAIN
    elif found is not None and found not in holds:
        cause, advice = f"it holds {found}{by}", OTHER_CONTENT.get(found, OTHER_TYPE)
    elif unsupported:
        cause, advice = f"{library} does not support it, which does not mean that it is damaged ({said})", convert
    elif is_cut(path) or "truncated" in words.lower():
        cause, advice = f"it is cut short ({words})", AGAIN
    else:
        cause, advice = f"it is damaged ({words})", AGAIN
    return damaged(path, cause, what=what, suffixes=suffixes, advice=advice)


def content_of(path: Path) -> str | None:
    """Return what a file holds by its first bytes, with an article: "a PNG picture"; None where they tell nothing."""
    with path.open("rb") as file:
        head = file.read(512)
    for start, name in _SIGNATURES.items():
        if head.startswith(start):
            return _RIFF.get(head[8:12], name) if start == b"RIFF" else name
    if head[4:8] == b"ftyp":
        return _BRANDS.get(head[8:12], "an MP4 or MOV clip")
    if not head.strip(b"\x00"):
        return "zeros only"
    lowered = head.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if lowered.startswith((b"<!doctype html", b"<html")):
        return "a web page"
    return "text" if all(byte in b"\t\r\n" or 32 <= byte < 127 for byte in head) else None


def is_cut(path: Path) -> bool:
    """Return whether a file of a format with a mark at its end, or a length at its beginning, ends before it."""
    size, holds = path.stat().st_size, content_of(path)
    with path.open("rb") as file:
        head = file.read(128)
        file.seek(max(size - _TAIL, 0))
        tail = file.read()
    if head.startswith(b"RIFF"):
        return int.from_bytes(head[4:8], "little") + 8 > size
    if holds == "an E57 scan":
        return int.from_bytes(head[16:24], "little") > size
    if holds == "a laser scan" and len(head) == 128 and head[104] < 128:  # las, not laz
        row, rows = int.from_bytes(head[105:107], "little"), int.from_bytes(head[107:111], "little")
        return int.from_bytes(head[96:100], "little") + row * rows > size
    if holds == "a BMP picture":
        return int.from_bytes(head[2:6], "little") > size
    return holds in _ENDS and _ENDS[holds] not in tail


def wrong_source(source: object, *, what: str, accepted: str, advice: str) -> MediaError:
    """Return the error for a source that is neither a path nor an array of a known layout."""
    return MediaError(f"{what[0].upper()}{what[1:]} came as {describe_source(source)}. Accepted: {accepted}. {advice}")


def require_numbers(values: NDArray[np.generic], *, name: str) -> None:
    """Refuse text, dates, objects and complex numbers, which no modality measures.

    Args:
        values: what was read or passed.
        name: of its source, for the message: "'depth.npy'".

    Raises:
        MediaError: when they are none of bool, whole numbers and floats.
    """
    if values.dtype.kind not in "buif":
        raise MediaError(
            f"{name} holds values of type {values.dtype}. Measurements are whole numbers or floats. Convert them with "
            "values.astype('float32')."
        )


def describe_source(source: object) -> str:
    """Return a short description of what a caller passed: its type, and shape and dtype where it has them."""
    shape = getattr(source, "shape", None)
    name = type(source).__name__
    if shape is None:
        return name
    dtype = str(getattr(source, "dtype", "")).removeprefix("torch.")
    return f"{name} of shape {tuple(shape)} and type {dtype}"


def name_of(source: object) -> str:
    """Return what begins a sentence about a source: its path in quotes, the first of several, or "The array"."""
    paths = source if isinstance(source, list | tuple) else [source]
    if not paths or not all(isinstance(path, str | os.PathLike) for path in paths):
        return "The array"
    return f"'{paths[0]}'"


def list_files(folder: Path, *, what: str, suffixes: Iterable[str]) -> list[Path]:
    """Return the files of a folder with an accepted ending, in natural order (`frame2` before `frame10`).

    Raises:
        MediaError: when there is none.
    """
    found = [path for path in folder.iterdir() if path.suffix.lower() in suffixes and not path.name.startswith(".")]
    if not found:
        raise MediaError(
            f"The folder '{folder}' holds no file that can be read here. {accepts(what, suffixes)} "
            "Put such files into the folder, or name another one."
        )
    return sorted(found, key=lambda path: [int(p) if p.isdigit() else p for p in re.split(r"(\d+)", path.name)])
