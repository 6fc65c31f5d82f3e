"""Damaged files for the checks: what interrupted downloads, full disks and wrong names leave behind.

A cut file needs a whole one. The kit writes those of common formats itself, takes the file an `example` may name, and
of other formats knows at least how a file begins.
"""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import av
import numpy as np
import torch
from PIL import Image
from torch import Tensor

from crema_core.data.pictures import IMAGE_SUFFIXES

_RANDOM_BYTES = 4_099
"""A prime number, so that they are no whole number of rows of any format."""
_PAGE = b"<!DOCTYPE html>\n<html><head><title>404 Not Found</title></head><body><h1>Not Found</h1></body></html>\n"
_BEGINNINGS = {
    ".edf": b"0       X X X X                                                                         ",
    ".exr": b"v/1\x01\x02\x00\x00\x00",
    ".flo": b"PIEH\x10\x00\x00\x00\x10\x00\x00\x00",
    ".gpx": b'<?xml version="1.0"?>\n<gpx version="1.1"><trk><trkseg><trkpt lat="52.5" lon="13.4">',
    ".h5": b"\x89HDF\r\n\x1a\n",
    ".hdf5": b"\x89HDF\r\n\x1a\n",
    ".json": b'{"values": [1.0, 2.0, ',
    ".las": b"LASF\x00\x00\x00\x00",
    ".laz": b"LASF\x00\x00\x00\x00",
    ".mat": b"MATLAB 5.0 MAT-file",
    ".nii": b"\x5c\x01\x00\x00",
    ".parquet": b"PAR1",
    ".e57": b"ASTM-E57\x01\x00\x00\x00\x00\x00\x00\x00",
    ".pfm": b"Pf\n32 32\n-1.0\n",
    ".pcd": b"# .PCD v0.7 - Point Cloud Data file format\nVERSION 0.7\nFIELDS x y z\nSIZE 4 4 4\nTYPE F F F\n",
    ".ply": b"ply\nformat ascii 1.0\nelement vertex 100\nproperty float x\nproperty float y\nproperty float z\n"
    b"end_header\n0.1 0.2 0.3\n0.4",
    ".zip": b"PK\x03\x04\x14\x00",
}
"""How files of formats begin that the kit does not write."""
_SOUND_CODECS = {
    ".wav": "pcm_s16le", ".flac": "flac", ".mp3": "libmp3lame", ".ogg": "libopus", ".opus": "libopus", ".m4a": "aac",
    ".aac": "aac",
}  # fmt: skip
_CLIP_CODECS = {
    ".mp4": ("mpeg4", "aac"), ".mov": ("mpeg4", "aac"), ".m4v": ("mpeg4", "aac"), ".mkv": ("mpeg4", "aac"),
    ".avi": ("mpeg4", "libmp3lame"), ".webm": ("libvpx", "libopus"), ".gif": ("gif", ""),
}  # fmt: skip


@dataclass(frozen=True)
class DamagedFile:
    """A file that is not what its name announces."""

    path: Path
    what: str  # the damage, for messages
    may_be_read: bool = False  # whether a reader may return what is left
    is_always_refused: bool = False  # also where every content is legal


def damaged_files(place: Path, suffix: str, *, example: object, declared: frozenset[str]) -> Iterator[DamagedFile]:
    """Write damaged files of one ending, one after another.

    Args:
        place: a path to write to; files get names beside it.
        suffix: the ending, with the dot.
        example: a synthetic source of the modality; where it names a file of this ending, that one is cut.
        declared: every ending the modality reads.
    """

    def write(name: str, content: bytes, ending: str = suffix) -> Path:
        path = place.with_name(f"{place.name.removesuffix(suffix)}-{name}{ending}")
        path.write_bytes(content)
        return path

    noise = random.Random(0).randbytes(_RANDOM_BYTES)
    yield DamagedFile(write("empty", b""), f"an empty {suffix} file", is_always_refused=True)
    yield DamagedFile(write("noise", noise), f"a {suffix} file of random bytes")
    yield DamagedFile(write("page", _PAGE), f"a web page saved as {suffix}")
    undeclared = ".undeclared"
    if undeclared not in declared:
        other = write("other", noise, undeclared)
        yield DamagedFile(other, "a file whose ending is not declared", is_always_refused=True)
    begin = _BEGINNINGS.get(suffix, b"")
    whole = _whole_file(place, suffix, example)
    cuts = {len(whole) * percent // 100: percent for percent in (2, 50, 90)} if whole else {}
    for length, percent in cuts.items():
        cut = write(f"cut{percent}", whole[:length])
        yield DamagedFile(cut, f"a {suffix} file cut off after {percent}%", may_be_read=length > 0)
    if begin:
        yield DamagedFile(write("begun", begin), f"a {suffix} file cut off after its beginning", may_be_read=True)


def _whole_file(place: Path, suffix: str, example: object) -> bytes:
    """Return a whole file of this ending; nothing where the kit can make none."""
    if isinstance(example, str | os.PathLike) and Path(example).suffix == suffix and Path(example).is_file():
        return Path(example).read_bytes()
    path = place.with_name(f"{place.name.removesuffix(suffix)}-whole{suffix}")
    try:
        _write(path, suffix, example)
    except (OSError, ValueError, av.FFmpegError):  # an encoder this build of the library lacks
        return b""
    return path.read_bytes() if path.exists() else b""


def _write(path: Path, suffix: str, example: object) -> None:
    numbers = np.random.default_rng(0).random((32, 32, 3), dtype=np.float32)
    if suffix in (".npy", ".npz"):
        values = example.numpy() if isinstance(example, Tensor) else example
        if isinstance(values, dict) and suffix == ".npz":
            arrays: dict[str, Any] = {str(name): np.asarray(own) for name, own in values.items()}
            np.savez(path, **arrays)
        else:
            array = values if isinstance(values, np.ndarray) else numbers
            np.save(path, array) if suffix == ".npy" else np.savez(path, values=array)
    elif suffix == ".pt":
        torch.save(torch.from_numpy(numbers), path)
    elif suffix in IMAGE_SUFFIXES:
        Image.fromarray((numbers * 255).astype(np.uint8)).save(path)
    elif suffix in (".csv", ".tsv", ".txt", ".xyz", ".pts"):
        mark = {".csv": ",", ".tsv": "\t"}.get(suffix, " ")
        np.savetxt(path, numbers[:, 0], delimiter=mark)
    elif suffix in _SOUND_CODECS:
        _write_clip(path, "", _SOUND_CODECS[suffix])
    elif suffix in _CLIP_CODECS:
        _write_clip(path, *_CLIP_CODECS[suffix])


def _write_clip(path: Path, video_codec: str, audio_codec: str) -> None:
    """Write two seconds of noise."""
    generator = np.random.default_rng(0)
    with av.open(str(path), "w") as container:
        pictures = container.add_stream(video_codec, rate=8) if video_codec else None
        track = container.add_stream(audio_codec, rate=48_000, layout="mono") if audio_codec else None
        if isinstance(pictures, av.VideoStream):
            pictures.width = pictures.height = 32
            pictures.pix_fmt = "rgb8" if video_codec == "gif" else "yuv420p"
            for _ in range(16):
                pixels = generator.integers(0, 255, (32, 32, 3), dtype=np.uint8)
                container.mux(pictures.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
            container.mux(pictures.encode())
        if isinstance(track, av.AudioStream):
            wave = generator.integers(-9_000, 9_000, (1, 96_000), dtype=np.int16)
            frame = av.AudioFrame.from_ndarray(wave, format="s16", layout="mono")
            frame.sample_rate = 48_000
            container.mux(track.encode(frame))
            container.mux(track.encode())
