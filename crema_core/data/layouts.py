"""Which dimension of an array is which: the field's usual layouts are told apart, what could be two is refused.

A shape is never guessed from its number of dimensions alone: `(480, 640, 1)` is one map as cv2-like libraries give it,
not 480 maps of one column, and `(3, 480, 640)` are channels as torch has them. Where both readings fit, the message
says what to pass for either.

Shape letters: T frames or maps, H W pixels, C numbers per pixel.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from crema_core.data.files import require_numbers
from crema_core.errors import MediaError

FEW_COLUMNS, MANY_ROWS = 4, 8
"""No map is at most so wide and at least so high: such a last dimension holds the numbers of one pixel."""


class MapLayout(NamedTuple):
    """What maps of a modality look like."""

    what: str  # the kind of source with its article: "a depth map"
    channels: int | None  # numbers per pixel; None: one, without a dimension of its own
    color_bytes: bool  # whether finished pictures, uint8 with three colours, are accepted too

    def __str__(self) -> str:
        tail = "" if self.channels is None else f", {self.channels}"
        plain = f"(H, W{tail}) or (T, H, W{tail})"
        return f"{plain}, or with 3 uint8 colours last" if self.color_bytes else plain


def with_time(values: NDArray[np.generic], layout: MapLayout, where: str) -> NDArray[np.generic]:
    """Return maps `(T, H, W)`, or `(T, H, W, C)` where each pixel has several numbers.

    Where maps have C numbers per pixel these may be the last dimension or the one before H; where they have one, a
    dimension of 1 may be at either place.

    Args:
        values: as a file or a caller has them.
        layout: what the modality takes.
        where: the source as a message begins with it: "The array", "'depth.npy'".

    Raises:
        MediaError: when the shape is none of the layout's, or could be two of them.
    """
    require_numbers(values, name=where)
    if values.size == 0 or values.ndim not in (2, 3, 4):
        raise _unfit(values, layout, where)
    pixels = layout.channels
    if pixels is None and layout.color_bytes and values.dtype == np.uint8 and 3 in _ends(values.shape):
        pixels = 3
    if pixels is None and layout.color_bytes and values.dtype == np.uint8 and values.shape[-1] == 4 and values.ndim > 2:
        return _batch(values[..., :3], 4)  # transparency is dropped, as of files
    if pixels is not None:
        return _with_channels(values, pixels, layout, where)
    return _without_channels(values, layout, where)


def channel_axis(shape: Sequence[int], count: int) -> list[int]:
    """Return the dimensions that may be the channels of pictures `(H, W, C)`, `(C, H, W)` or with T before: -1, -3.

    >>> channel_axis((480, 640, 3), 3), channel_axis((3, 480, 640), 3), channel_axis((8, 3, 5, 3), 3)
    ([-1], [-3], [-1, -3])
    """
    return [axis for axis in (-1, -3) if len(shape) >= 3 and shape[axis] == count]


def _ends(shape: Sequence[int]) -> set[int]:
    return {shape[-1], shape[-3]} if len(shape) >= 3 else set()


def _batch(values: NDArray[np.generic], num_dims: int) -> NDArray[np.generic]:
    return values if values.ndim == num_dims else values[None]


def _with_channels(values: NDArray[np.generic], count: int, layout: MapLayout, where: str) -> NDArray[np.generic]:
    axes = channel_axis(values.shape, count)
    if not axes:
        raise _unfit(values, layout, where)
    if layout.channels is None:  # colours among maps come last; what is three high is no reason for a doubt
        axes = axes[:1]
    first, *others = (np.moveaxis(values, axis, -1) for axis in axes)
    if any(not np.array_equal(first, other) for other in others):
        raise _two(
            values,
            layout,
            where,
            f"pictures with their {count} numbers per pixel last or first",
            f"pictures that are not {count} pixels high or wide, the numbers last",
        )
    if layout.channels is None and values.ndim == 3 and axes == [-3]:  # bytes may be grey maps as well as colours
        raise _two(
            values,
            layout,
            where,
            f"one picture with {count} colours per pixel or {count} maps of {_size(values.shape)}",
            "np.moveaxis(values, 0, -1) for the first, values[..., None] for the second",
        )
    if axes[0] != -1:
        first = np.ascontiguousarray(first)  # sums over other strides differ in their last bits
    return _batch(first, 4)


def _without_channels(values: NDArray[np.generic], layout: MapLayout, where: str) -> NDArray[np.generic]:
    shape = values.shape
    if values.ndim == 2:
        return values[None]
    axes = channel_axis(shape, 1)
    if values.ndim == 4:
        found = [np.squeeze(values, axis) for axis in axes]
        if not found:
            raise _unfit(values, layout, where)
        if len(found) == 2 and found[0].shape != found[1].shape:
            raise _two(
                values,
                layout,
                where,
                f"{shape[0]} maps of {_size(found[0].shape)} or of {_size(found[1].shape)}",
                "values[..., 0] for the first, values[:, 0] for the second",
            )
        return found[0]
    if shape[-1] == 1 and shape != (1, 1, 1):
        if 1 in shape[:2]:  # one row or one column: nothing tells them apart
            raise _two(
                values,
                layout,
                where,
                f"one map of {_size(shape[:2])} or {shape[0]} maps of {_size(shape[1:])}",
                "values[..., 0] for the first, values[..., None] for the second",
            )
        return values[..., 0][None]
    if 1 < shape[-1] <= FEW_COLUMNS and shape[1] >= MANY_ROWS:
        raise _two(
            values,
            layout,
            where,
            f"one map with {shape[-1]} numbers per pixel or {shape[0]} maps of {_size(shape[1:])}",
            "values[..., 0] for the first, values[..., None] for the second",
        )
    return values


def _two(values: NDArray[np.generic], layout: MapLayout, where: str, readings: str, advice: str) -> MediaError:
    return MediaError(
        f"{where} has shape {values.shape}, which may be {readings}. {_called(layout)} has shape {layout}. Pass "
        f"{advice}."
    )


def _unfit(values: NDArray[np.generic], layout: MapLayout, where: str) -> MediaError:
    return MediaError(f"{where} has shape {values.shape}. {_called(layout)} has shape {layout}. Change the layout.")


def _called(layout: MapLayout) -> str:
    return f"{layout.what[0].upper()}{layout.what[1:]}"


def _size(shape: Sequence[int]) -> str:
    return f"{shape[-2]} x {shape[-1]}"
