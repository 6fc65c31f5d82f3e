"""Picture files through Pillow: every page upright, with its own numbers, as viewers show them.

Orientation is what the camera noted (EXIF, also of png, webp and tiff). A jpeg of a phone may hold further pictures
behind the one that is meant (MPO: a depth or brightness map, a second eye); these are no pages.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import accumulate
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image, TiffImagePlugin, UnidentifiedImageError, features

from crema_core.data.clips import Timeline
from crema_core.data.files import check_file, content_of, unreadable
from crema_core.data.limits import MAX_BYTES, require_room, require_time
from crema_core.errors import CremaError, MediaError, first_line
from crema_core.plugins.spec import PICTURE_SUFFIXES

IMAGE_SUFFIXES = PICTURE_SUFFIXES
WHAT = "a picture"
CONVERT = "Convert it, for example to png, or pass its values as an array."
CONVERT_TIFF = (
    "Save it with at most 32 bits per number, for example values.astype('float32'), or pass its values as an array or "
    "as .npz."
)
_HOLDS = (
    "a PNG picture", "a JPEG picture", "a GIF picture", "a TIFF picture", "a BMP picture", "a WebP picture",
    "a JPEG 2000 picture", "an AVIF picture", "a PNM picture", "a PFM map",
)  # fmt: skip
_OPTIONAL = {"a JPEG 2000 picture": "jpg_2000", "an AVIF picture": "avif", "a WebP picture": "webp"}
"""Contents that Pillow may be built without, and what it calls them."""
_ORIENTATION = 0x0112
_SUBFILE_TYPE, _REDUCED_OR_MASK = 254, 0b101
_WHOLE_SIXTEEN = ("I;16", "I;16B", "I;16L")
_GREY = {"L": 1, "I": 4, "F": 4}
"""Pillow's modes whose numbers are kept, with their bytes."""
_TO_GREY = ("1", "LA")
_FLOATS = 16
"""Bytes that a measured pixel takes while it is turned into what an encoder sees."""
_STRIP = 1 << 22
"""Pixels that are copied from Pillow to numpy at a time."""


class Pages(NamedTuple):
    """Pictures of one file.

    Attributes:
        values: `(T, H, W)` uint8, uint16, int32 or float32 for grey, `(T, H, W, 3)` uint8 for colour (transparency
            dropped). Of grey pages that are 3 wide the number of dimensions tells that they are no colours.
    """

    values: NDArray[np.generic]


def read_pages(path: str | Path, choose: Callable[[Timeline | int], Sequence[int]] | None = None) -> Pages:
    """Read pages of a picture file without changing their numbers; a file of one picture has one page.

    Args:
        path: the file.
        choose: which pages of several are read: it gets their `Timeline`, or their number where they have no times.
            None: all. Pages of different size or number format are not alike; then the first one stands for the file.

    Raises:
        MediaError: when the file is absent, empty, cut short, damaged, not supported or of another type.
    """
    path = check_file(path, what=WHAT, suffixes=IMAGE_SUFFIXES)
    with _opened(path) as image:
        numbers = _page_numbers(image, path)
        if choose is not None and len(numbers) > 1:
            timeline = _timeline(image, numbers, path)
            numbers = [numbers[index] for index in choose(len(numbers) if timeline is None else timeline)]
        _require_pages(path, image, len(numbers))
        pages = [_page(image, number, path) for number in numbers]
    alike = all(page.shape == pages[0].shape and page.dtype == pages[0].dtype for page in pages)
    return Pages(np.stack(pages) if alike and len(pages) > 1 else pages[0][None])


def is_several(path: Path) -> bool:
    """Return whether a picture file holds several pages; raises as `read_pages`."""
    with _opened(path) as image:
        return len(_page_numbers(image, path)) > 1


def pixels_of(image: Image.Image) -> NDArray[np.generic]:
    """Return the numbers of a picture, upright: `(H, W)`, or `(H, W, 3)` uint8 for colour (transparency dropped)."""
    image.load()  # a tiff is turned by Pillow when it is loaded, and has no orientation any more
    orientation = image.getexif().get(_ORIENTATION, 1)
    width, height = image.size
    rows = max(_STRIP // max(width, 1), 1)
    if rows >= height:
        return upright(_as_stored(image), orientation)
    # Pillow's own way to numpy needs three times the picture beside it, so it goes in strips.
    first = _as_stored(image.crop((0, 0, width, rows)))
    values = np.empty((height, *first.shape[1:]), first.dtype)
    for top in range(0, height, rows):
        strip = image.crop((0, top, width, min(top + rows, height)))
        values[top : top + rows] = _as_stored(strip)
    return upright(values, orientation)


def _as_stored(image: Image.Image) -> NDArray[np.generic]:
    if image.mode in _WHOLE_SIXTEEN:
        return np.asarray(image).astype(np.uint16)
    if image.mode in _GREY:
        return np.array(image)
    return np.array(image.convert("L" if image.mode in _TO_GREY else "RGB"))


def _require_pages(path: Path, image: Image.Image, count: int) -> None:
    """Compare what a header announces with the bound, before anything is decoded."""
    width, height = image.size
    wide = 2 if image.mode in _WHOLE_SIXTEEN else _GREY.get(image.mode) or (1 if image.mode in _TO_GREY else 3)
    # Of measurements a modality makes floats, in several steps; of how many pages is its business, of one at least.
    least = _FLOATS if wide > 1 and wide != 3 else wide
    pages = "" if count == 1 else f"{count:,} pages of "
    require_room(path, width * height * max(count * wide, least), f"{pages}{width:,} x {height:,} pixels")


def orientation_of(path: Path) -> int:
    """Return the EXIF orientation of a picture file, 1 to 8; for measurements stored beside its pixels."""
    with _opened(path) as image:
        return int(image.getexif().get(_ORIENTATION, 1))


def upright(values: NDArray[np.generic], orientation: object) -> NDArray[np.generic]:
    """Turn a picture as its EXIF orientation says.

    Args:
        values: `(H, W)` or `(H, W, C)`, as stored.
        orientation: 1 to 8; anything else is taken as 1, as viewers do.

    Returns:
        the picture as it is to be shown; of 5 to 8 height and width are exchanged.
    """
    if orientation in (5, 6, 7, 8):
        values = values.swapaxes(0, 1)
    if orientation in (3, 4, 7, 8):
        values = values[::-1]
    if orientation in (2, 3, 6, 7):
        values = values[:, ::-1]
    return np.ascontiguousarray(values)


def to_rgb(values: NDArray[np.generic], *, grey: bool, name: str) -> NDArray[np.uint8]:
    """Return 8-bit RGB pictures `(..., H, W, 3)`.

    Args:
        values: pictures of one number per pixel, or with three colours last.
        grey: which of the two.
        name: of the source, for the message.

    Raises:
        MediaError: when they have more than 8 bits per channel.
    """
    if values.dtype != np.uint8:
        raise MediaError(
            f"{name} is a picture of {values.dtype} numbers. RGB pictures have 8 bits per channel. Convert it to 8 "
            "bits, or give it to a modality that reads measurements."
        )
    rgb = np.repeat(values[..., None], 3, axis=-1) if grey else values
    return rgb.astype(np.uint8, copy=False)


@contextmanager
def _opened(path: Path) -> Iterator[Image.Image]:
    try:
        # Given a path, Pillow maps plain tiffs of 8 and 16 bits into memory, and mixes up the rows of those that lie on
        # their side.
        with path.open("rb") as file, Image.open(file) as image:
            yield image
    except CremaError:
        raise
    except Image.DecompressionBombError as error:
        raise MediaError(
            f"'{path}' is larger than {2 * (Image.MAX_IMAGE_PIXELS or 0):,} pixels. Larger pictures are not read, so "
            f"that a damaged or hostile one cannot fill the memory; this is a limit of Pillow, beside {MAX_BYTES}. "
            "Scale it down first, or in Python set PIL.Image.MAX_IMAGE_PIXELS = None."
        ) from error
    except Exception as error:
        reason = _reason(path, error)
        raise unreadable(
            path,
            reason,
            library="Pillow",
            holds=_HOLDS,
            what=WHAT,
            suffixes=IMAGE_SUFFIXES,
            convert=CONVERT_TIFF if content_of(path) == "a TIFF picture" else CONVERT,
            unsupported=_is_unsupported(reason),
        ) from error


def _page_numbers(image: Image.Image, path: Path) -> list[int]:
    count = getattr(image, "n_frames", 1)
    if count == 1 or image.format == "MPO":
        return [0]
    numbers = list(range(1 if getattr(image, "default_image", False) else 0, count))
    if image.format != "TIFF":
        return numbers
    kept, first = [], None
    for number in numbers:
        require_time(path)
        image.seek(number)
        if not image.tag_v2.get(_SUBFILE_TYPE, 0) & _REDUCED_OR_MASK:  # type: ignore[attr-defined]
            kept.append(number)
            first = first or (image.size, image.mode)
            if (image.size, image.mode) != first:
                return kept[:1]
    return kept or [0]


def _timeline(image: Image.Image, numbers: Sequence[int], path: Path) -> Timeline | None:
    """Return when the pages of an animation are on screen; None for pages without times."""
    lasts_s = []
    if image.format == "WEBP":  # decoding holds two canvases, what is between them and Pillow, and Pillow's picture
        width, height = image.size
        require_room(path, 4 * 4 * width * height, f"an animation of {width:,} x {height:,} pixels")
    for number in numbers:
        require_time(path)
        image.seek(number)
        if image.format == "WEBP":
            image.load()  # it tells a page's time only then
        lasts_s.append(float(image.info.get("duration", 0)) / 1000)
    if not all(duration > 0 for duration in lasts_s):
        return None
    *starts_s, finish_s = accumulate(lasts_s, initial=0.0)
    return Timeline(starts_s, finish_s)


def _page(image: Image.Image, number: int, path: Path) -> NDArray[np.generic]:
    require_time(path)
    if getattr(image, "n_frames", 1) > 1:
        image.seek(number)
        _require_pages(path, image, 1)  # pages may differ in size
    return pixels_of(image)


def _reason(path: Path, error: Exception) -> Exception:
    """Return why a picture could not be identified: of a tiff whose number format it lacks Pillow says no more."""
    if not isinstance(error, UnidentifiedImageError):
        return error
    if content_of(path) in _OPTIONAL and not features.check(_OPTIONAL[content_of(path) or ""]):
        return NotImplementedError("it was built without this format")
    if content_of(path) != "a TIFF picture":
        return UnidentifiedImageError("it finds no picture")  # instead of words that name the file again
    try:
        with path.open("rb") as file:
            directory = TiffImagePlugin.ImageFileDirectory_v2(file.read(8))
            file.seek(directory.next)
            directory.load(file)
        bits, formats = directory.get(258, (1,)), directory.get(339, (1,))
        kind = {1: "unsigned", 2: "signed", 3: "float", 5: "complex", 6: "complex"}.get(formats[0], "unknown")
        return UnidentifiedImageError(f"unknown pixel mode, {bits[0]} bits {kind}, {len(bits)} per pixel")
    except Exception:  # noqa: BLE001 - the first error tells more than one about a directory that is damaged
        return error


def _is_unsupported(error: Exception) -> bool:
    said = first_line(error).lower()
    return isinstance(error, NotImplementedError) or any(
        word in said for word in ("unknown pixel mode", "not available", "unsupported", "not supported", "unrecognized")
    )
