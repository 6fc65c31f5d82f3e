"""Pictures, maps and tables of numbers, from whatever holds them: a clip, files, a folder, a list, or memory.

What the numbers of a map mean is the caller's business: it passes one reader per file ending. Frames are chosen as
those of clips, so maps computed for every frame of a clip stay aligned with it; a single one stays single.
"""

from __future__ import annotations

import os
from bisect import bisect_right
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torch.nn.functional import interpolate

from crema_core.data.announced import require_arrays
from crema_core.data.clips import Clip, Timeline, read_clip
from crema_core.data.files import check_file, content_of, damaged, list_files, unreadable, wrong_source
from crema_core.data.layouts import MapLayout, channel_axis, with_time
from crema_core.data.pictures import IMAGE_SUFFIXES, Pages, is_several, pixels_of, read_pages, to_rgb
from crema_core.data.sampling import Pick, middle_indices, rate_indices, segment_spans, split_span
from crema_core.errors import MediaError, first_line
from crema_core.plugins.spec import ARRAY_SUFFIXES, CLIP_SUFFIXES

MEGAPIXEL = 1_000_000
"""From here on resizing floats would cost more than decoding the frame."""
_AT_ONCE = 1 << 20
"""Numbers that are resized at once, but at least a frame."""
FRAME_SUFFIXES = (*CLIP_SUFFIXES, *IMAGE_SUFFIXES)
_ACCEPTED = "(T, H, W, 3), (T, 3, H, W), (H, W, 3) or (3, H, W), uint8 0..255 or float 0..1"
_ARRAYS = ("a numpy array", "a zip archive")
Reader = Callable[[Path], NDArray[np.generic] | Pages]
_Chosen = Callable[[int], list[int]]
ColormapName = Literal["turbo", "inferno", "grey"]
# Anchors are interpolated linearly. `turbo` separates near and far by hue, `inferno` goes from black through red to
# yellow as heat does, `grey` repeats the number in three channels as the paper's preprocessing did.
_ANCHORS: dict[str, tuple[tuple[int, int, int], ...]] = {
    "turbo": (
        (48, 18, 59), (70, 107, 227), (40, 187, 236), (49, 242, 153), (162, 252, 60),
        (237, 208, 58), (251, 128, 34), (209, 48, 5), (122, 4, 3),
    ),
    "inferno": (
        (0, 0, 4), (31, 12, 72), (85, 15, 109), (136, 34, 106), (186, 54, 85),
        (227, 89, 51), (249, 140, 10), (249, 201, 50), (252, 255, 164),
    ),
    "grey": ((0, 0, 0), (255, 255, 255)),
}  # fmt: skip


def read_frames(
    source: object,
    *,
    num_frames: int,
    start_s: float | None = None,
    end_s: float | None = None,
    fps: float | None = None,
    pick: Pick = middle_indices,
) -> Clip:
    """Read RGB frames, by default the middle ones of equal segments.

    Args:
        source: a clip file (`a.mp4#t=1,2` is a part of it), a picture file, a folder or list of pictures, a PIL image
            or a list of them, or an array or tensor `(T, H, W, 3)`, `(T, 3, H, W)`, `(H, W, 3)` or `(3, H, W)`, uint8
            0..255 or float 0..1; grey ones have 1 in place of 3, transparent ones 4 last. Pictures are turned as their
            EXIF orientation says; an animated webp or png is a clip.
        num_frames: frames returned from a source with several; a single picture stays single (T = 1).
        start_s, end_s: part of a clip file in seconds; refused for sources without a clock.
        fps: frames per second of a clip file instead, at most `num_frames`; refused for sources without a clock.
        pick: which of the frames are taken.

    Returns:
        Frames `(T, 3, H, W)`; times only for clip files.

    Raises:
        MediaError: when the source is absent, empty, damaged, of another type, or has no clock but a part was asked.
    """
    if isinstance(source, str | os.PathLike):
        named = str(source)
        path = Path(split_span(named).path)
        if path.suffix.lower() in CLIP_SUFFIXES and not path.is_dir():
            return read_clip(named, num_frames=num_frames, start_s=start_s, end_s=end_s, fps=fps, pick=pick)
        source, start_s, end_s = split_span(named).within(start_s, end_s)
        if not path.is_dir():
            check_file(path, what="a clip or picture", suffixes=FRAME_SUFFIXES)
            if is_several(path):
                return _frames_of_pages(path, num_frames=num_frames, start_s=start_s, end_s=end_s, fps=fps, pick=pick)
    _refuse_times(start_s, end_s, fps)
    if isinstance(source, Image.Image):  # its numbers have one layout, however small it is
        return Clip(torch.from_numpy(_rgb_of(source)).permute(2, 0, 1)[None].contiguous(), None)
    source = _in_memory(source)
    if isinstance(source, np.ndarray):
        source = torch.from_numpy(np.ascontiguousarray(source))
    if isinstance(source, Tensor):
        frames = _frames_of_array(source)
        return Clip(frames if len(frames) == 1 else frames[pick(len(frames), num_frames)], None)
    readers = dict.fromkeys(IMAGE_SUFFIXES, _read_rgb_pages)
    stack = read_stack(source, what="a picture", readers=readers, num_frames=num_frames, channels=3, pick=pick)
    return Clip(torch.from_numpy(stack).permute(0, 3, 1, 2).contiguous(), None)


def _refuse_times(start_s: float | None, end_s: float | None, fps: float | None) -> None:
    if fps is not None:
        raise MediaError(
            f"fps={fps:g} was given for pictures without a clock. It needs a clip file. Leave it out, or pass a clip "
            "file."
        )
    if start_s is not None or end_s is not None:
        raise MediaError(
            "start_s and end_s were given for pictures without a clock. They need a clip file. Leave them out, or pass "
            "only the pictures of that part."
        )


def resize(frames: Tensor, size: int) -> Tensor:
    """Resize to squares, antialiased.

    Args:
        frames: `(T, C, H, W)`, uint8 0..255 or float 0..1.
        size: side in pixels.

    Returns:
        `(T, C, size, size)` float32 0..1. Of bytes of a megapixel or more, numbers are rounded to a whole byte, which
        costs a sixth of the time and differs by less than 1/255.
    """
    if frames.dtype == torch.uint8 and frames.shape[-2] * frames.shape[-1] >= MEGAPIXEL:
        frames = interpolate(frames, size=(size, size), mode="bicubic", antialias=True, align_corners=False)
    if frames.shape[-2:] == (size, size):
        return _unit(frames)
    # Floats of one frame stay in the processor's cache; those of a whole clip would take twice as long.
    pieces = frames.split(max(_AT_ONCE // max(frames[:1].numel(), 1), 1))
    resized = torch.cat(
        [
            interpolate(_unit(own), size=(size, size), mode="bicubic", antialias=True, align_corners=False)
            for own in pieces
        ]
    )
    return resized.clamp_(0, 1)  # bicubic overshoots at edges


def _unit(frames: Tensor) -> Tensor:
    """Return float pixels as they are, and bytes divided by 255."""
    return frames.float().div_(255) if frames.dtype == torch.uint8 else frames.float()


def _frames_of_array(frames: Tensor) -> Tensor:
    """Return `(T, 3, H, W)` on the CPU."""
    axes = channel_axis(frames.shape, 3) if frames.dim() in (3, 4) and frames.numel() > 0 else []
    if not axes and frames.dim() in (3, 4) and frames.shape[-1] == 4 and frames.numel() > 0:
        frames, axes = frames[..., :3], [-1]  # transparency is dropped, as of files
    if not axes and frames.dim() in (3, 4) and frames.numel() > 0 and len(grey := channel_axis(frames.shape, 1)) == 1:
        frames, axes = frames.movedim(grey[0], -1).expand(*frames.movedim(grey[0], -1).shape[:-1], 3), [-1]
    if not axes:
        raise wrong_source(frames, what="a clip or picture", accepted=_ACCEPTED, advice="Change the layout.")
    if frames.dtype != torch.uint8 and not frames.is_floating_point():
        raise wrong_source(
            frames,
            what="a clip or picture",
            accepted=_ACCEPTED,
            advice="Pass 8-bit numbers, values.astype('uint8'), or divide by the largest number there can be.",
        )
    first, *others = (frames.movedim(axis, -3) for axis in axes)
    if any(not torch.equal(first, other) for other in others):
        raise wrong_source(
            frames,
            what="a clip or picture",
            accepted=_ACCEPTED,
            advice="Its 3 colours may be the first or the last of H, W and colours. Pass pictures that are not 3 "
            "pixels high or wide.",
        )
    low, high = (float(frames.min()), float(frames.max())) if frames.is_floating_point() else (0.0, 1.0)
    if not (low >= 0 and high <= 1):
        advice = "Divide by 255, or pass uint8." if low >= 0 or high > 1 else "Pass (values + 1) / 2."
        raise MediaError(f"Pixels came as floats from {low:g} to {high:g}. Float pixels are in 0..1. {advice}")
    batch = first[None] if first.dim() == 3 else first
    return batch.detach().cpu().contiguous()


def _in_memory(source: object) -> object:
    """Return pictures of Pillow, alone or in a list, and lists of arrays as one array; anything else as it is."""
    if isinstance(source, Image.Image):
        return _rgb_of(source)
    kinds = (Image.Image, np.ndarray, Tensor)
    if not isinstance(source, list | tuple) or not source or not all(isinstance(item, kinds) for item in source):
        return source
    pictures = [torch.as_tensor(np.ascontiguousarray(_in_memory(_as_numpy(item)))) for item in source]
    shapes = sorted({tuple(picture.shape) for picture in pictures})
    if len(shapes) > 1 or len(shapes[0]) != 3 or len({picture.dtype for picture in pictures}) > 1:
        raise MediaError(
            f"A list holds pictures of the shapes {', '.join(map(str, shapes))}. Pictures of one list are frames of "
            "one clip, of equal size and number format, each (H, W, 3) or (3, H, W). Resize them first."
        )
    return torch.stack(pictures)


def _rgb_of(image: Image.Image) -> NDArray[np.uint8]:
    pixels = pixels_of(image)
    return to_rgb(pixels, grey=pixels.ndim == 2, name="A PIL image")


def _as_numpy(item: object) -> object:
    return item.detach().cpu().numpy() if isinstance(item, Tensor) else item


def _frames_of_pages(
    path: Path, *, num_frames: int, start_s: float | None, end_s: float | None, fps: float | None, pick: Pick
) -> Clip:
    """Read frames of an animated webp or png, or of a tiff with several pages."""
    spans: list[tuple[float, float]] = []

    def choose(pages: Timeline | int) -> list[int]:
        if isinstance(pages, int):
            _refuse_times(start_s, end_s, fps)
            return pick(pages, num_frames)
        starts_s, finish_s = pages
        low_s, high_s = max(start_s or 0.0, 0.0), finish_s if end_s is None else min(end_s, finish_s)
        if low_s >= high_s:
            raise MediaError(
                f"'{path}' has no frame between {low_s:g} s and {high_s:g} s; it lasts {finish_s:g} s. A part must "
                f"overlap 0..{finish_s:g} s. Change start_s and end_s."
            )
        first = max(bisect_right(starts_s, low_s + 1e-6) - 1, 0)  # the frame on screen at `low_s`
        shown = [start for start in starts_s[first:] if start < high_s - 1e-6]
        if fps is not None:
            numbers, spans[:] = rate_indices(shown, high_s, fps, low_s=low_s)
            if len(numbers) <= num_frames:
                return [first + number for number in numbers]
        limit_s = starts_s[first + len(shown)] if first + len(shown) < len(starts_s) else finish_s
        offsets = pick(len(shown), num_frames)
        spans[:] = segment_spans(shown, limit_s, len(offsets))
        return [first + offset for offset in offsets]

    values = read_pages(path, choose).values
    rgb = to_rgb(values, grey=values.ndim == 3, name=f"'{path}'")
    frames = torch.from_numpy(rgb).permute(0, 3, 1, 2).contiguous()
    return Clip(frames, torch.tensor(spans, dtype=torch.float32) if spans else None)


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
        source: a file, a folder of files, a list of files, an array, a tensor or a PIL image.
        what: the kind of source with its article, for messages: "a distance map".
        readers: file ending -> function returning `(H, W)` or `(T, H, W)`, with a last dimension of `channels` where
            the maps have one; or `Pages`, of which T is always the first.
        num_frames: maps returned from a source with several; a single map stays single.
        channels: size of a last dimension; None: the maps have none.
        color_bytes: also accept uint8 maps with a last dimension of 3 (finished pictures among measurements).
        pick: which maps are taken from a source with several.

    Returns:
        `(T, H, W)` or `(T, H, W, channels)`, T is 1 or `num_frames`.

    Raises:
        MediaError: when a file cannot be read or the shapes do not fit.
    """
    layout = MapLayout(what, channels, color_bytes)

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
    if isinstance(source, Image.Image):
        source = _in_memory(source) if channels == 3 else pixels_of(source)
    if isinstance(source, np.ndarray):
        return _choose(with_time(source, layout, "The array"), chosen)
    accepted = f"a path, a folder, a list of paths, or an array {layout}"
    raise wrong_source(source, what=what, accepted=accepted, advice="Pass one of these.")


def _read_files(
    paths: Sequence[Path], readers: Mapping[str, Reader], chosen: _Chosen, layout: MapLayout
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


def _read_file(path: Path, readers: Mapping[str, Reader], layout: MapLayout) -> NDArray[np.generic]:
    checked = check_file(path, what=layout.what, suffixes=readers)
    read = readers[checked.suffix.lower()](checked)
    if not isinstance(read, Pages):
        return with_time(read, layout, f"'{path}'")
    values = read.values
    colors = values.ndim == 4
    fits = (layout.channels == 3 or layout.color_bytes) if colors else layout.channels is None
    return values if fits else with_time(values[0] if len(values) == 1 else values, layout, f"'{path}'")


def _choose(maps: NDArray[np.generic], chosen: _Chosen) -> NDArray[np.generic]:
    return maps if len(maps) == 1 else maps[chosen(len(maps))]


def read_image(path: str | Path) -> NDArray[np.uint8]:
    """Read a picture as 8-bit RGB, upright.

    Returns:
        `(H, W, 3)` uint8; `(T, H, W, 3)` of an animated webp or png and of a tiff with several pages of one size.

    Raises:
        MediaError: when the file is absent, empty, damaged, of another type or has more than 8 bits per channel.
    """
    rgb = _read_rgb_pages(path).values.astype(np.uint8, copy=False)
    return rgb[0] if len(rgb) == 1 else rgb


def _read_rgb_pages(path: str | Path) -> Pages:
    values = read_pages(path).values
    return Pages(to_rgb(values, grey=values.ndim == 3, name=f"'{path}'"))


def read_raw_image(path: str | Path) -> NDArray[np.generic]:
    """Read a picture without changing its numbers, upright.

    Returns:
        `(H, W)` uint8, uint16, int32 or float32 for grey, `(H, W, 3)` uint8 for colour (transparency dropped); a file
        with several pages of one size gives `(T, H, W)` or `(T, H, W, 3)`. `read_pages` always gives T first.

    Raises:
        MediaError: when the file is absent, empty, damaged or of another type.
    """
    values = read_pages(path).values
    return values[0] if len(values) == 1 else values


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
    require_arrays(path)
    try:
        loaded = np.load(path, allow_pickle=False)
        if isinstance(loaded, np.ndarray):
            return {"": loaded}
        with loaded:
            return {name: loaded[name] for name in loaded.files}
    except Exception as error:
        raise _array_refusal(path, error) from error


def _array_refusal(path: Path, error: Exception) -> MediaError:
    said = first_line(error)
    if "allow_pickle" in said and content_of(path) in _ARRAYS:
        advice = "Save numbers: numpy.savez(path, name=values) with values of bool, whole numbers or floats."
        cause = "it holds pickled objects, which are refused because they can run code (numpy)"
        return damaged(path, cause, what="an array", suffixes=ARRAY_SUFFIXES, advice=advice)
    holds = {"a numpy array", "a zip archive"}
    lacks_data = content_of(path) == "a numpy array" and ("reshape" in said or "data" in said or "EOF" in said)
    if lacks_data and not isinstance(error, MemoryError):
        return damaged(path, f"it is cut short (numpy: {said})", what="an array", suffixes=ARRAY_SUFFIXES)
    convert = "Save it with numpy.savez(path, name=values)."
    return unreadable(
        path, error, library="numpy", holds=holds, what="an array", suffixes=ARRAY_SUFFIXES, convert=convert
    )


def colorize(values: Tensor, colormap: ColormapName) -> Tensor:
    """Turn numbers into colours.

    Args:
        values: `(T, H, W)` float, clamped to 0..1.
        colormap: which table.

    Returns:
        `(T, 3, H, W)` float32 in 0..1.
    """
    anchors = torch.tensor(_ANCHORS[colormap], dtype=torch.float32) / 255
    position = values.float().clamp(0, 1) * (len(anchors) - 1)
    low = position.floor().clamp(max=len(anchors) - 2).long()
    share = (position - low)[..., None]
    colors = anchors[low] * (1 - share) + anchors[low + 1] * share
    return colors.permute(0, 3, 1, 2).contiguous()
