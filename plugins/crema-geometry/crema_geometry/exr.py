"""OpenEXR files, where the library is installed: floats per channel, as renderers write depth and normals."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from crema_core.data.media import unreadable
from crema_core.errors import MediaError

DEPTH_CHANNELS = ("Z", "depth.Z", "Depth.Z", "V", "Y", "R")
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
