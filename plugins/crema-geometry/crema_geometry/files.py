"""Readers of the file formats that are neither arrays nor plain pictures."""

from __future__ import annotations

import re
from pathlib import Path

import av
import numpy as np
from numpy.typing import NDArray

from crema_core.data.media import Pages, damaged, read_pages, require_size, unreadable
from crema_core.errors import MediaError

FLO_MAGIC = 202021.25
FLO_UNKNOWN = 1e9
KITTI_ZERO, KITTI_PER_PX = 2.0**15, 64.0
WHAT = "a flow field"
SUFFIXES = (".flo", ".png", ".pfm")
CONVERT_FLOW = "Save the field as .npz with the key flow."
MAP, MAP_SUFFIXES = "a PFM map", (".pfm",)
PFM_HEADER = re.compile(rb"(P[fF])\s+(?:#[^\n]*\n\s*)*(\d+)\s+(\d+)\s+([-+0-9.eE]+)\s")


def read_depth_image(path: Path) -> Pages:
    """Read distances from a picture of one channel with more than 8 bits.

    Returns:
        `(T, H, W)` in the file's own numbers; T is the number of its pages.

    Raises:
        MediaError: when the file is damaged or a finished picture.
    """
    pages = read_pages(path)
    if pages.values.dtype == np.uint8:
        shape = pages.values.shape[1:] if len(pages.values) == 1 else pages.values.shape
        raise MediaError(
            f"'{path}' has shape {shape} and 8-bit numbers. Depth is one number of more than 8 bits per pixel. "
            "Give the measured map, or give a finished picture to a modality that sees."
        )
    return pages


def read_pfm(path: Path) -> NDArray[np.float32]:
    """Read a portable float map: rows from the bottom to the top, the sign of its scale is the byte order.

    Returns:
        `(H, W)` float32 of `Pf`, `(H, W, 3)` of `PF`, as stored; infinite where unknown.

    Raises:
        MediaError: when the file is of another type or cut short.
    """
    require_size(path)
    raw = path.read_bytes()
    header = PFM_HEADER.match(raw)
    if header is None:
        cause = ValueError("it does not begin with Pf or PF, width, height and scale")
        raise unreadable(
            path,
            cause,
            library="",
            holds={MAP},
            what=MAP,
            suffixes=MAP_SUFFIXES,
            convert="Save the map as .npz.",
        )
    kind, width, height, scale = header.groups()
    shape = (int(height), int(width), 3) if kind == b"PF" else (int(height), int(width))
    count, begin = int(np.prod(shape, dtype=object)), header.end()
    if count < 1 or len(raw) - begin < 4 * count:
        announced = " x ".join(map(str, shape))
        cause_text = f"it is cut short, it announces {announced} numbers and holds {(len(raw) - begin) // 4}"
        raise damaged(path, cause_text, what=MAP, suffixes=MAP_SUFFIXES)
    order = "<" if scale.startswith(b"-") else ">"
    values = np.frombuffer(raw, f"{order}f4", count, offset=begin).reshape(shape)
    return values[::-1].astype(np.float32)


def read_pfm_flow(path: Path) -> NDArray[np.float32]:
    """Read a flow field from a portable float map of three numbers per pixel, right, down and one that is not used.

    Returns:
        `(H, W, 2)` pixels right and down, as SceneFlow stores them; NaN where not finite.

    Raises:
        MediaError: as `read_pfm`, and when it has one number per pixel.
    """
    values = read_pfm(path)
    if values.ndim != 3:
        raise MediaError(
            f"'{path}' has one number per pixel. A flow field has pixels right and pixels down. Give it to "
            "depth if it holds distances, or save the field as .npz with the key flow."
        )
    return np.where(np.isfinite(values[..., :2]), values[..., :2], np.float32(np.nan))


def read_flo(path: Path) -> NDArray[np.float32]:
    """Read a Middlebury `.flo` file: magic float, width, height, then u and v interleaved, little endian.

    Returns:
        `(H, W, 2)` pixels right and down, NaN where unknown.

    Raises:
        MediaError: when the file is not of that format or is cut short.
    """
    require_size(path)
    raw = path.read_bytes()
    if len(raw) < 12 or np.frombuffer(raw, "<f4", 1)[0] != FLO_MAGIC:
        raise unreadable(
            path,
            ValueError("it does not begin with the Middlebury magic number"),
            library="",
            holds={"a flo field"},
            what=WHAT,
            suffixes=SUFFIXES,
            convert=CONVERT_FLOW,
        )
    width, height = (int(value) for value in np.frombuffer(raw, "<i4", 2, offset=4))
    if width < 1 or height < 1 or len(raw) < 12 + 8 * width * height:
        cause = f"it is cut short, it announces {width} x {height} vectors and holds {(len(raw) - 12) // 8}"
        raise damaged(path, cause, what=WHAT, suffixes=SUFFIXES)
    flow = np.frombuffer(raw, "<f4", 2 * width * height, offset=12).reshape(height, width, 2).astype(np.float32)
    flow[np.abs(flow).max(axis=-1) > FLO_UNKNOWN] = np.nan
    return flow


def read_kitti_flow(path: Path) -> NDArray[np.float32]:
    """Read a KITTI flow png: 16-bit RGB, `(red - 2^15) / 64` right, `(green - 2^15) / 64` down, blue 0 where unknown.

    Pillow cuts 16-bit colour to 8 bits, so FFmpeg decodes.

    Returns:
        `(H, W, 2)` pixels right and down, NaN where unknown.

    Raises:
        MediaError: when the file is damaged or not 16-bit RGB.
    """
    try:
        with av.open(str(path)) as container:
            frame = next(container.decode(container.streams.video[0]))
    except (av.error.FFmpegError, StopIteration, IndexError) as error:
        raise unreadable(
            path,
            error,
            library="FFmpeg",
            holds={"a PNG picture"},
            what=WHAT,
            suffixes=SUFFIXES,
            convert=CONVERT_FLOW,
        ) from error
    if frame.format.name not in ("rgb48be", "rgb48le", "rgba64be", "rgba64le"):
        raise MediaError(
            f"'{path}' is a png of pixel format {frame.format.name}. A flow png is 16-bit RGB as KITTI writes it "
            "(other colour codes of flow cannot be undone). Save the field as .npz with the key flow."
        )
    pixels = frame.to_ndarray(format="rgb48le", threads=1)
    flow = (pixels[..., :2].astype(np.float32) - KITTI_ZERO) / KITTI_PER_PX
    flow[pixels[..., 2] == 0] = np.nan
    return flow
