"""Read pictures and tables of numbers from files with their own number format, for readers that know what they mean."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageSequence

from crema_core.data.files import check_file, damaged
from crema_core.errors import MediaError

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".webp", ".tif", ".tiff")
ARRAY_SUFFIXES = (".npz", ".npy")


def read_image(path: str | Path) -> NDArray[np.uint8]:
    """Read a picture as 8-bit RGB.

    Returns:
        `(H, W, 3)` uint8.

    Raises:
        MediaError: when the file is absent, empty, damaged, of another type or has more than 8 bits per channel.
    """
    values = read_raw_image(path)
    if values.dtype != np.uint8:
        raise MediaError(
            f"'{path}' is a picture of {values.dtype} numbers. RGB pictures have 8 bits per channel. Convert it to 8 "
            "bits, or give it to a sense that reads measurements."
        )
    rgb = values if values.ndim == 3 else np.repeat(values[..., None], 3, axis=-1)
    return rgb.astype(np.uint8, copy=False)


def read_raw_image(path: str | Path) -> NDArray[np.generic]:
    """Read a picture without changing its numbers.

    Returns:
        `(H, W)` uint8, uint16, int32 or float32 for grey, `(H, W, 3)` uint8 for colour (transparency dropped); a file
        with several pages of one size gives `(T, H, W)` or `(T, H, W, 3)`.

    Raises:
        MediaError: when the file is absent, empty, damaged or of another type.
    """
    path = check_file(path, what="a picture", suffixes=IMAGE_SUFFIXES)
    try:
        with Image.open(path) as image:
            pages = [_pixels(page) for page in ImageSequence.Iterator(image)]
    except Image.DecompressionBombError as error:
        raise MediaError(
            f"'{path}' is larger than {2 * (Image.MAX_IMAGE_PIXELS or 0):,} pixels. Larger pictures are not read, so "
            "that a damaged or hostile one cannot fill the memory. Scale it down first."
        ) from error
    except Exception as error:
        raise damaged(path, "the decoder found invalid data", what="a picture", suffixes=IMAGE_SUFFIXES) from error
    same = all(page.shape == pages[0].shape and page.dtype == pages[0].dtype for page in pages)
    return np.stack(pages) if len(pages) > 1 and same else pages[0]


def _pixels(image: Image.Image) -> NDArray[np.generic]:
    if image.mode in ("I;16", "I;16B", "I;16L"):
        return np.asarray(image).astype(np.uint16)
    if image.mode in ("L", "I", "F"):
        return np.array(image)
    return np.array(image.convert("L" if image.mode in ("1", "LA") else "RGB"))


def read_array(path: str | Path, *, key: str | None = None) -> NDArray[np.generic]:
    """Read one array from an `.npy` or `.npz` file; pickled objects are refused.

    Args:
        path: the file.
        key: name of the array in an `.npz`; a file with a single array may call it anything.

    Raises:
        MediaError: when the file is absent, empty, damaged, of another type, or lacks the array.
    """
    arrays = read_arrays(path)
    if key in arrays:
        return arrays[key]
    if len(arrays) == 1:
        return next(iter(arrays.values()))
    found = ", ".join(arrays) or "none"
    raise MediaError(
        f"'{path}' holds the arrays {found}. Several arrays need one named '{key}'. "
        f"Save it with numpy.savez(path, {key}=values)."
    )


def read_arrays(path: str | Path) -> dict[str, NDArray[np.generic]]:
    """Read every array of an `.npz`, or the one of an `.npy` (named ""); pickled objects are refused.

    Raises:
        MediaError: when the file is absent, empty, damaged or of another type.
    """
    path = check_file(path, what="an array", suffixes=ARRAY_SUFFIXES)
    try:
        loaded = np.load(path, allow_pickle=False)
        if isinstance(loaded, np.ndarray):
            return {"": loaded}
        with loaded:
            return {name: loaded[name] for name in loaded.files}
    except Exception as error:
        cause = "it is damaged, or no plain numpy array (pickled objects are refused)"
        if isinstance(error, MemoryError):
            cause = "what it announces does not fit into the memory"
        raise damaged(path, cause, what="an array", suffixes=ARRAY_SUFFIXES) from error
