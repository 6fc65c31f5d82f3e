"""OpenEXR files, where the library is installed: floats per channel, as renderers write depth and normals."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from crema_core.data.media import require_room, unreadable
from crema_core.errors import MediaError

DEPTH_CHANNELS = ("Z", "depth.Z", "Depth.Z", "V", "Y", "R")
MAGIC, SEVERAL_PARTS = 20000630, 0x1000
"""The first number of a file, and the bit of its second that announces several parts."""
MOST_PARTS, MOST_ATTRIBUTES, MOST_NAME, MOST_HEADER = 1_000, 10_000, 255, 1 << 20
WHAT, SUFFIXES = "an OpenEXR file", (".exr",)


def read_exr_depth(path: Path) -> NDArray[np.float32]:
    """Read distances `(H, W)` float32 metres from the first of the channels Z, V, Y and R.

    A channel of one of these names in the layer or pass "Depth" of a renderer is found as well: Blender writes
    `ViewLayer.Depth.Z` or `View Layer.Depth.V`, others `depth.Z`.

    Raises:
        MediaError: when the library is absent, or the file is damaged or has none of them.
    """
    channels = read_exr_channels(path)
    in_layers = sorted(name for name in channels if _is_depth_of_layer(name))
    name = next((name for name in (*DEPTH_CHANNELS, *in_layers) if name in channels), None)
    if name is None:
        raise MediaError(
            f"'{path}' has the channels {', '.join(channels)}. Depth is read from Z, V, Y or R, also of a layer named "
            "Depth (in Blender: switch the pass Z on). Rename the channel, or save the map as .npz with the key depth."
        )
    return channels[name]


def _is_depth_of_layer(name: str) -> bool:
    """Return whether a channel's name ends as `Depth.Z`, `Depth.V` and the like, or as a layer's `Z`."""
    *layers, channel = name.split(".")
    return bool(layers) and (channel == "Z" or (layers[-1].lower() == "depth" and channel in DEPTH_CHANNELS))


def read_exr_normals(path: Path) -> NDArray[np.float32]:
    """Read directions `(H, W, 3)` float32 from the channels X, Y, Z or R, G, B, also of a layer named Normal.

    Raises:
        MediaError: when the library is absent, or the file is damaged or has neither.
    """
    channels = read_exr_channels(path)
    layers = sorted({name.rpartition(".")[0] for name in channels if "normal" in name.lower()})
    prefixes = ["", *(f"{layer}." for layer in layers if layer)]
    for names in (tuple(prefix + axis for axis in axes) for prefix in prefixes for axes in ("XYZ", "RGB")):
        if set(names) <= channels.keys():
            return np.stack([channels[name] for name in names], axis=-1)
    raise MediaError(
        f"'{path}' has the channels {', '.join(channels)}. Normals are read from X, Y, Z or R, G, B. Rename the "
        "channels, or save the map as .npz with the key normals."
    )


def read_exr_channels(path: Path) -> dict[str, NDArray[np.float32]]:
    """Read every channel `(H, W)` float32 by its name.

    Raises:
        MediaError: when the library is absent, or the file is damaged or of a kind it does not support.
    """
    try:
        import OpenEXR
    except ImportError as error:
        raise MediaError(
            f"'{path}' is an OpenEXR file, and the library that reads those is not installed. Accepted without it: "
            '.png, .tif, .npz, .npy. Run: pip install "crema-geometry[exr]"'
        ) from error
    library: Any = OpenEXR
    if num_bytes := announced_bytes(path):
        require_room(path, num_bytes, f"channels of {num_bytes // 4:,} numbers in all")
    try:
        with library.File(str(path), separate_channels=True) as file:
            return {name: np.asarray(channel.pixels, dtype=np.float32) for name, channel in file.channels().items()}
    except Exception as error:
        raise unreadable(
            path,
            error,
            library="OpenEXR",
            holds={"an OpenEXR file"},
            what=WHAT,
            suffixes=SUFFIXES,
            convert="Save the map as .npz.",
            unsupported="unsupported" in str(error).lower() or "unknown compression" in str(error).lower(),
        ) from error


def announced_bytes(path: Path) -> int:
    """Return the bytes that the channels of a file take as 32-bit numbers, by its headers; 0 where they are damaged.

    Attributes are those of "OpenEXR File Layout"; of a file of several parts all are read.
    """
    with path.open("rb") as file:
        magic, version = struct.unpack("<II", file.read(8).ljust(8, b"\0"))
        if magic != MAGIC:
            return 0
        total = 0
        for _ in range(MOST_PARTS):
            num_bytes, is_last = _announced_by_part(file)
            total += num_bytes
            if is_last or not version & SEVERAL_PARTS:
                break
    return total


def _announced_by_part(file: BinaryIO) -> tuple[int, bool]:
    """Return the bytes of one part, and whether there is none behind it."""
    area, num_channels = 0, 0
    for number in range(MOST_ATTRIBUTES):
        name = _text(file)
        if not name:
            return 4 * area * num_channels, number == 0
        kind = _text(file)
        (size,) = struct.unpack("<I", file.read(4).ljust(4, b"\0"))
        if kind == b"box2i" and name == b"dataWindow":
            left, top, right, bottom = struct.unpack("<4i", file.read(size)[:16].ljust(16, b"\0"))
            area = max(right - left + 1, 0) * max(bottom - top + 1, 0)
        elif kind == b"chlist":
            num_channels = _num_channels(file.read(min(size, MOST_HEADER)))
        else:
            file.seek(size, 1)
    return 4 * area * num_channels, True


def _num_channels(content: bytes) -> int:
    """Return how many channels a list has: a name that ends in 0, and 16 bytes about it, for each."""
    count, at = 0, 0
    while (end := content.find(b"\0", at)) > at:
        count, at = count + 1, end + 17
    return count


def _text(file: BinaryIO) -> bytes:
    found = bytearray()
    while (byte := file.read(1)) not in (b"", b"\0") and len(found) < MOST_NAME:
        found += byte
    return bytes(found)
