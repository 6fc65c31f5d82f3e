"""Readers of the file formats that are neither arrays nor plain pictures."""

from __future__ import annotations

from pathlib import Path

import av
import numpy as np
from numpy.typing import NDArray

from crema_core.data.media import damaged, read_raw_image
from crema_core.errors import MediaError

FLO_MAGIC = 202021.25
FLO_UNKNOWN = 1e9
KITTI_ZERO, KITTI_PER_PX = 2.0**15, 64.0
WHAT = "a flow field"
SUFFIXES = (".flo", ".png")


def read_depth_image(path: Path) -> NDArray[np.generic]:
    """Read distances from a picture of one channel with more than 8 bits.

    Returns:
        `(H, W)`, or `(T, H, W)` for a file with several pages, in the file's own numbers.

    Raises:
        MediaError: when the file is damaged or a finished picture.
    """
    values = read_raw_image(path)
    if values.dtype == np.uint8:
        raise MediaError(
            f"'{path}' has shape {values.shape} and 8-bit numbers. Depth is one number of more than 8 bits per pixel. "
            "Give the measured map, or give a finished picture to a modality that sees."
        )
    return values


def read_flo(path: Path) -> NDArray[np.float32]:
    """Read a Middlebury `.flo` file: magic float, width, height, then u and v interleaved, little endian.

    Returns:
        `(H, W, 2)` pixels right and down, NaN where unknown.

    Raises:
        MediaError: when the file is not of that format or is cut short.
    """
    raw = path.read_bytes()
    if len(raw) < 12 or np.frombuffer(raw, "<f4", 1)[0] != FLO_MAGIC:
        raise damaged(path, "it does not begin with the Middlebury magic number", what=WHAT, suffixes=SUFFIXES)
    width, height = (int(value) for value in np.frombuffer(raw, "<i4", 2, offset=4))
    if width < 1 or height < 1 or len(raw) < 12 + 8 * width * height:
        cause = f"it announces {width} x {height} vectors and holds {(len(raw) - 12) // 8}"
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
        raise damaged(path, "the decoder found invalid data", what=WHAT, suffixes=SUFFIXES) from error
    if frame.format.name not in ("rgb48be", "rgb48le", "rgba64be", "rgba64le"):
        raise MediaError(
            f"'{path}' is a png of pixel format {frame.format.name}. A flow png is 16-bit RGB as KITTI writes it "
            "(other colour codes of flow cannot be undone). Save the field as .npz with the key flow."
        )
    pixels = frame.to_ndarray(format="rgb48le")
    flow = (pixels[..., :2].astype(np.float32) - KITTI_ZERO) / KITTI_PER_PX
    flow[pixels[..., 2] == 0] = np.nan
    return flow
