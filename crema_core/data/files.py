"""Checks on a media file before it is decoded, and the errors every reader raises.

Kept apart from decoding so that every reader refuses an absent, empty or wrongly typed file with the same words.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from crema_core.errors import MediaError


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
    if not path.exists():
        raise MediaError(f"'{path}' does not exist. {accepted} Check the path.")
    if path.is_dir():
        raise MediaError(f"'{path}' is a folder. {accepted} Name a file inside it.")
    if path.suffix.lower() not in suffixes:
        ending = f"ends in '{path.suffix}'" if path.suffix else "has no ending"
        raise MediaError(f"'{path}' {ending}. {accepted} Convert the file, or pass its values as an array.")
    if path.stat().st_size == 0:
        raise MediaError(f"'{path}' is empty (0 bytes). {accepted} Write or download the file again.")
    return path


def accepts(what: str, suffixes: Iterable[str]) -> str:
    """Return the sentence that states which file endings are read: "A clip is read from .mp4, .webm."."""
    return f"{what[0].upper()}{what[1:]} is read from {', '.join(suffixes)}."


def damaged(path: Path, cause: str, *, what: str, suffixes: Iterable[str]) -> MediaError:
    """Return the error for a file that exists but cannot be decoded; raise it `from` the decoder's own error."""
    return MediaError(f"'{path}' cannot be read: {cause}. {accepts(what, suffixes)} Write or download the file again.")


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
