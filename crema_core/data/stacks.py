"""Read stacks of maps (one number or vector per pixel) from a file, a folder, a list of files or memory.

What a number means is the caller's business: it passes one reader per file ending. Frames are chosen as those of clips,
so maps computed for every frame of a clip stay aligned with it; a single map stays single (a sense without time).
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from crema_core.data.files import check_file, list_files, require_numbers, wrong_source
from crema_core.data.sampling import Pick, middle_indices
from crema_core.errors import MediaError

Reader = Callable[[Path], NDArray[np.generic]]
_Chosen = Callable[[int], list[int]]


class _Layout(NamedTuple):
    what: str
    channels: int | None
    color_bytes: bool

    def __str__(self) -> str:
        tail = "" if self.channels is None else f", {self.channels}"
        plain = f"(H, W{tail}) or (T, H, W{tail})"
        return f"{plain}, or with 3 uint8 colours last" if self.color_bytes else plain


def read_stack(
    source: object,
    *,
    what: str,
    readers: Mapping[str, Reader],
    num_frames: int,
    channels: int | None = None,
    color_bytes: bool = False,
    pick: Pick = middle_indices,
) -> NDArray[np.generic]:
    """Read maps in their own number format.

    Args:
        source: a file, a folder of files, a list of files, an array or a tensor.
        what: the kind of source with its article, for messages: "a distance map".
        readers: file ending -> function returning `(H, W)` or `(T, H, W)`, with a last dimension of `channels` where
            the maps have one.
        num_frames: maps returned from a source with several; a single map stays single.
        channels: size of a last dimension; None: the maps have none.
        color_bytes: also accept uint8 maps with a last dimension of 3 (finished pictures among measurements).
        pick: which maps are taken from a source with several.

    Returns:
        `(T, H, W)` or `(T, H, W, channels)`, T is 1 or `num_frames`.

    Raises:
        MediaError: when a file cannot be read or the shapes do not fit.
    """
    layout = _Layout(what, channels, color_bytes)

    def chosen(count: int) -> list[int]:
        return pick(count, num_frames)

    if isinstance(source, str | os.PathLike):
        path = Path(source)
        if path.is_dir():
            return _read_files(list_files(path, what=what, suffixes=readers), readers, chosen, layout)
        return _choose(_read_file(path, readers, layout), chosen)
    if isinstance(source, list | tuple) and source and all(isinstance(item, str | os.PathLike) for item in source):
        return _read_files([Path(item) for item in source], readers, chosen, layout)
    if isinstance(source, torch.Tensor):
        source = source.detach().cpu().numpy()
    if isinstance(source, np.ndarray):
        return _choose(_with_time(source, layout, "The array"), chosen)
    accepted = f"a path, a folder, a list of paths, or an array {layout}"
    raise wrong_source(source, what=what, accepted=accepted, advice="Pass one of these.")


def _read_files(
    paths: Sequence[Path], readers: Mapping[str, Reader], chosen: _Chosen, layout: _Layout
) -> NDArray[np.generic]:
    if len(paths) == 1:
        return _choose(_read_file(paths[0], readers, layout), chosen)
    numbers = chosen(len(paths))
    read = {number: _read_file(paths[number], readers, layout) for number in sorted(set(numbers))}
    first = read[numbers[0]]
    for number, maps in read.items():
        if maps.shape != first.shape or maps.dtype != first.dtype or len(maps) != 1:
            raise MediaError(
                f"'{paths[number]}' holds {maps.dtype} {maps.shape}, '{paths[numbers[0]]}' {first.dtype} "
                f"{first.shape}. Files of one sequence hold one map each, of equal size and number format. "
                "Write them alike."
            )
    return np.concatenate([read[number] for number in numbers])


def _read_file(path: Path, readers: Mapping[str, Reader], layout: _Layout) -> NDArray[np.generic]:
    checked = check_file(path, what=layout.what, suffixes=readers)
    return _with_time(readers[checked.suffix.lower()](checked), layout, f"'{path}'")


def _choose(maps: NDArray[np.generic], chosen: _Chosen) -> NDArray[np.generic]:
    return maps if len(maps) == 1 else maps[chosen(len(maps))]


def _with_time(values: NDArray[np.generic], layout: _Layout, where: str) -> NDArray[np.generic]:
    """Return the maps with time as the first dimension."""
    require_numbers(values, name=where)
    colors = layout.color_bytes and values.dtype == np.uint8 and values.ndim >= 3 and values.shape[-1] == 3
    channels = 3 if colors else layout.channels
    dims = 2 if channels is None else 3
    fits = channels is None or values.shape[-1:] == (channels,)
    if values.ndim not in (dims, dims + 1) or not fits or values.size == 0:
        raise MediaError(
            f"{where} has shape {values.shape}. {layout.what[0].upper()}{layout.what[1:]} has shape {layout}. "
            "Change the layout."
        )
    return values if values.ndim == dims + 1 else values[None]
