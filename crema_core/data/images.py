"""Pictures, maps and tables of numbers, from whatever holds them: a clip, files, a folder, a list, or memory.

What the numbers of a map mean is the caller's business: it passes one reader per file ending. Frames are chosen as
those of clips, so maps computed for every frame of a clip stay aligned with it; a single one stays single.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageSequence
from torch import Tensor
from torch.nn.functional import interpolate

from crema_core.data.clips import CLIP_SUFFIXES, Clip, read_clip
from crema_core.data.files import check_file, damaged, list_files, require_numbers, wrong_source
from crema_core.data.sampling import Pick, middle_indices, split_span
from crema_core.errors import MediaError

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".webp", ".tif", ".tiff")
ARRAY_SUFFIXES = (".npz", ".npy")
FRAME_SUFFIXES = (*CLIP_SUFFIXES, *IMAGE_SUFFIXES)
Reader = Callable[[Path], NDArray[np.generic]]
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
        source: a clip file (`a.mp4#t=1,2` is a part of it), a picture file, a folder or list of pictures, a PIL image,
            or an array or tensor `(T, H, W, 3)`, `(T, 3, H, W)`, `(H, W, 3)` or `(3, H, W)`, uint8 0..255 or float
            0..1.
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
        source, start_s, end_s = split_span(str(source)).within(start_s, end_s)
        path = Path(source)
        if path.suffix.lower() in CLIP_SUFFIXES and not path.is_dir():
            return read_clip(path, num_frames=num_frames, start_s=start_s, end_s=end_s, fps=fps, pick=pick)
        if not path.is_dir():
            check_file(path, what="a clip or picture", suffixes=FRAME_SUFFIXES)
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
    if isinstance(source, Image.Image):
        source = np.array(source.convert("RGB"))
    if isinstance(source, np.ndarray):
        source = torch.from_numpy(np.ascontiguousarray(source))
    if isinstance(source, Tensor):
        frames = _channels_first(source)
        return Clip(frames if len(frames) == 1 else frames[pick(len(frames), num_frames)], None)
    readers = dict.fromkeys(IMAGE_SUFFIXES, read_image)
    stack = read_stack(source, what="a picture", readers=readers, num_frames=num_frames, channels=3, pick=pick)
    return Clip(torch.from_numpy(stack).permute(0, 3, 1, 2).contiguous(), None)


def resize(frames: Tensor, size: int) -> Tensor:
    """Resize to squares, antialiased.

    Args:
        frames: `(T, C, H, W)`, uint8 0..255 or float 0..1.
        size: side in pixels.

    Returns:
        `(T, C, size, size)` float32 0..1.
    """
    values = frames.float() / 255 if frames.dtype == torch.uint8 else frames.float()
    if values.shape[-2:] == (size, size):
        return values
    resized = interpolate(values, size=(size, size), mode="bicubic", antialias=True, align_corners=False)
    return resized.clamp(0, 1)  # bicubic overshoots at edges


def _channels_first(frames: Tensor) -> Tensor:
    batch = frames[None] if frames.dim() == 3 else frames
    if batch.dim() == 4 and batch.shape[-1] == 3:
        batch = batch.permute(0, 3, 1, 2)
    legal = batch.dim() == 4 and batch.shape[1] == 3 and batch.numel() > 0
    if not legal or (frames.dtype != torch.uint8 and not frames.is_floating_point()):
        raise wrong_source(
            frames,
            what="a clip or picture",
            accepted="(T, H, W, 3), (T, 3, H, W), (H, W, 3) or (3, H, W), uint8 0..255 or float 0..1",
            advice="Change the layout.",
        )
    if frames.is_floating_point() and not (frames.min() >= 0 and frames.max() <= 1):
        raise MediaError(
            f"Pixels came as floats from {float(frames.min()):g} to {float(frames.max()):g}. Float pixels are in 0..1. "
            "Divide by 255, or pass uint8."
        )
    return batch.detach().cpu().contiguous()


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
            "bits, or give it to a modality that reads measurements."
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
