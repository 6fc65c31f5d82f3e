"""Damaged media files of every format that is read: do readers answer with samples or with their own error?

Whole small files are written, then damaged by the seed: bytes flipped, fields of headers set to extremes, parts cut
out, doubled or filled with one byte, ends cut off. Each is read by the modalities' own `prepare` in a forked process
with bounded memory and time. An outcome is wrong when the process dies, hangs, or takes too much memory, when anything
but a `MediaError` is raised, or when what is returned is not finite.

    python -m benchmarks.campaigns.media [--mutants 300 --seed 0 --only .wav .laz --folder DIR]

Formats whose library or encoder is not installed are left out and named. Prints what is wrong, a table and one line of
JSON; wrong files are kept in DIR.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import resource
import select
import signal
import struct
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from crema_core.api.build import build
from crema_core.common.tables import table
from crema_core.errors import MediaError
from crema_core.modality import Modality
from crema_world.generate import make_world
from tests.support.media_endings import CLIPS, SOUNDS, clip_of, sound_of

MAX_S = 20.0
"""Longest time of one file of a few kilobytes, on a busy machine."""
MAX_BYTES = 3 * 2**30
"""Memory that reading one may take beyond what the process has."""
MODALITIES = ("video", "audio", "depth", "flow", "normals", "thermal", "touch", "pointcloud")
RIGHT = ("read", "refused")
PICTURES = {
    ".png": ("video", "depth", "thermal"), ".jpg": ("video",), ".webp": ("video",), ".tif": ("video", "depth"),
    ".bmp": ("video",), ".ppm": ("video",), ".jp2": ("video",), ".avif": ("video",),
}  # fmt: skip
FORMATS: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(CLIPS, ("video",)),
    **dict.fromkeys(SOUNDS, ("audio",)),
    **PICTURES,
    ".npz": ("flow", "normals", "pointcloud"),
    ".npy": ("depth",),
    ".pfm": ("depth",),
    ".flo": ("flow",),
    ".exr": ("depth",),
    ".ply": ("pointcloud",),
    ".pcd": ("pointcloud",),
    ".xyz": ("pointcloud",),
    ".las": ("pointcloud",),
    ".laz": ("pointcloud",),
}


def whole_file(suffix: str, modality: str, world: Path, folder: Path) -> Path:
    """Write a small whole file; raises where an encoder or a library is not there."""
    if suffix in CLIPS:
        return clip_of(suffix, folder)
    if suffix in SOUNDS:
        return sound_of(suffix, folder)
    path, generator = folder / f"{modality}{suffix}", np.random.default_rng(0)
    values = generator.random((24, 32), dtype=np.float32) * 4 + 0.5
    points = generator.random((50, 3), dtype=np.float32)
    if suffix in PICTURES:
        colors = generator.integers(0, 256, (24, 32, 3), dtype=np.uint8)
        pixels = (values * 1000).astype(np.uint16) if modality in ("depth", "thermal") else colors
        Image.fromarray(pixels).save(path)
    elif suffix == ".npz":
        found = next(world.rglob(f"*.{modality}.npz"), None)
        np.savez(path, xyz=points, rgb=points) if found is None else path.write_bytes(found.read_bytes())
    elif suffix == ".npy":
        np.save(path, values)
    elif suffix == ".pfm":
        path.write_bytes(b"Pf\n32 24\n-1.0\n" + values[::-1].tobytes())
    elif suffix == ".flo":
        path.write_bytes(b"PIEH" + struct.pack("<ii", 32, 24) + generator.random((24, 32, 2), np.float32).tobytes())
    elif suffix == ".exr":
        import OpenEXR

        kind = OpenEXR.scanlineimage
        header = {"compression": OpenEXR.ZIP_COMPRESSION, "type": kind}
        with OpenEXR.File(header, {"Z": values}) as file:
            file.write(str(path))
    elif suffix == ".ply":
        path.write_bytes(next(world.rglob("*.ply")).read_bytes())
    elif suffix == ".pcd":
        head = "VERSION .7\nFIELDS x y z\nSIZE 4 4 4\nTYPE F F F\nCOUNT 1 1 1\n"
        head += "WIDTH 50\nHEIGHT 1\nPOINTS 50\nDATA binary\n"
        path.write_bytes(head.encode() + points.tobytes())
    elif suffix == ".xyz":
        np.savetxt(path, points)
    else:
        import laspy

        scan = laspy.create(point_format=3, file_version="1.2")
        scan.x, scan.y, scan.z = points.T
        scan.write(str(path))
    return path


def damage(content: bytes, generator: random.Random) -> bytes:
    """Return a damaged copy, most often near the beginning, where headers are."""
    raw = bytearray(content)
    for _ in range(generator.choice((1, 1, 1, 2, 4))):
        size = max(len(raw), 1)
        at = generator.randrange(min(size, generator.choice((64, 256, 2048, size))))
        length = generator.choice((1, 2, 4, 8, 64))
        match generator.randrange(8):
            case 0:
                raw[at : at + 1] = bytes([raw[at] ^ 1 << generator.randrange(8)]) if raw else b""
            case 1:
                raw[at : at + length] = generator.randbytes(length)
            case 2:
                extreme = generator.choice((0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF))
                raw[at : at + 4] = struct.pack(generator.choice("<>") + "I", extreme)
            case 3:
                extreme = generator.choice((0, 2**31, 2**32, 2**40, 2**62, 2**63, 2**64 - 1))
                raw[at : at + 8] = struct.pack(generator.choice("<>") + "Q", extreme)
            case 4:
                del raw[at : at + length]
            case 5:
                raw[at:at] = raw[at : at + length]
            case 6:
                raw[at : at + length] = bytes([generator.choice((0, 255))]) * length
            case 7:
                del raw[generator.randrange(size) :]
    return bytes(raw)


def check(modality: Modality, path: Path) -> str:
    """Return what came of reading a file: "read", "refused", or what is wrong."""
    try:
        sample = modality.prepare(str(path))
    except MediaError:
        return "refused"
    except Exception as error:  # noqa: BLE001  # it is what is looked for
        return f"{type(error).__name__}: {error}"
    tensors = [own for own in sample.tensors.values() if own.is_floating_point()]
    return "read" if all(bool(own.isfinite().all()) for own in tensors) else "not finite"


def read_all(
    paths: Sequence[Path], read: Callable[[Path], str], *, max_s: float = MAX_S, max_bytes: int = MAX_BYTES
) -> list[str]:
    """Read files in forked processes, one after the other in each until it dies, or is ended after `max_s`.

    Args:
        paths: the files.
        read: returns what came of one.
        max_s: longest time of one.
        max_bytes: memory that a process may ask for beyond what it has.
    """
    outcomes: list[str] = []
    while len(outcomes) < len(paths):
        ours, theirs = os.pipe()
        child = os.fork()
        if child == 0:
            try:
                _, hard = resource.getrlimit(resource.RLIMIT_AS)
                resource.setrlimit(resource.RLIMIT_AS, (_address_space() + max_bytes, hard))
                silent = os.open(os.devnull, os.O_WRONLY)
                for stream in (1, 2):
                    os.dup2(silent, stream)
                for path in paths[len(outcomes) :]:
                    os.write(theirs, (json.dumps(read(path)[:300]) + "\n").encode())
                os._exit(0)
            finally:
                os._exit(99)
        os.close(theirs)
        outcomes += _outcomes_of(child, ours, len(paths) - len(outcomes), max_s)
    return outcomes


def _outcomes_of(child: int, ours: int, most: int, max_s: float) -> list[str]:
    found, rest, since = list[str](), b"", time.monotonic()
    while len(found) < most:
        ready, _, _ = select.select([ours], [], [], max(since + max_s - time.monotonic(), 0))
        piece = os.read(ours, 65_536) if ready else b""
        if not piece:
            break
        *whole, rest = (rest + piece).split(b"\n")
        found += [json.loads(line) for line in whole]
        since = time.monotonic()
    is_hanging = len(found) < most and time.monotonic() - since >= max_s
    if is_hanging:
        os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    os.close(ours)
    if len(found) < most:
        code = os.waitstatus_to_exitcode(status)
        found.append(
            "hangs" if is_hanging else f"the process died ({signal.Signals(-code).name if code < 0 else code})"
        )
    return found


def _address_space() -> int:
    pages = int(Path("/proc/self/statm").read_text().split()[0]) if Path("/proc/self/statm").exists() else 0
    return pages * resource.getpagesize()


def main(arguments: Sequence[str] | None = None) -> int:
    """Damage, read and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--mutants", type=int, default=300, help="damaged files of every format and modality")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", nargs="*", default=None, choices=list(FORMATS), help="endings")
    parser.add_argument("--folder", type=Path, help="where wrong files are kept")
    given = parser.parse_args(arguments)
    torch.set_num_threads(1)
    model = build(list(MODALITIES), backbone="crema-tiny")
    readers: dict[str, Modality] = {name: model.branch(name).modality for name in MODALITIES}
    rows, counts, absent = [["format", "modality", "read", "refused", "wrong"]], Counter[str](), list[str]()
    with tempfile.TemporaryDirectory() as own:
        folder = Path(own)
        make_world(folder / "world", num_clips=1, seed=0, split="train")
        for suffix, names in FORMATS.items():
            for name in names if given.only is None or suffix in given.only else ():
                try:
                    content = whole_file(suffix, name, folder / "world", folder).read_bytes()
                except Exception as error:  # noqa: BLE001  # an encoder that is not there, in whatever words
                    absent.append(f"{suffix} ({type(error).__name__})")
                    continue
                generator = random.Random(f"{given.seed} {suffix} {name}")
                paths = [folder / f"{name}-{number}{suffix}" for number in range(given.mutants)]
                for path in paths:
                    path.write_bytes(damage(content, generator))
                found = read_all(paths, lambda path, name=name: check(readers[name], path))  # type: ignore[misc]
                wrong = [
                    (path, text) for path, text in zip(paths, found, strict=True) if text not in ("read", "refused")
                ]
                for path, text in wrong:
                    print(f"{path.name}: {text[:160]}", flush=True)
                    if given.folder is not None:
                        given.folder.mkdir(parents=True, exist_ok=True)
                        (given.folder / path.name).write_bytes(path.read_bytes())
                row: dict[str, Any] = {
                    "read": found.count("read"),
                    "refused": found.count("refused"),
                    "wrong": len(wrong),
                }
                counts.update(row)
                rows.append([suffix, name, *(str(number) for number in row.values())])
                for path in paths:
                    path.unlink()
    print(table(rows))
    if absent:
        print(f"left out: {', '.join(absent)}")
    print(json.dumps({"media": dict(counts)}))
    return 1 if counts["wrong"] else 0


if __name__ == "__main__":
    raise SystemExit(main())
