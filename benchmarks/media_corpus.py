"""Clips and sounds as people have them, read by this project and by the ffmpeg program: do times and contents agree?

The files are made on the spot (`tests/support/media_files.py`): cut without encoding, joined, begun or ended anywhere,
with lost packets, mirrored. A clip agrees when every picture, its time and the end do, all at once and a few sought
alone; a sound when it lasts as long and every quarter of a second is heard where ffmpeg hears it, read whole and in
windows. Files cut short agree when they are refused by that name.

    python -m benchmarks.media_corpus [--only gap --folder FILES]
"""

from __future__ import annotations

import argparse
import tempfile
from collections import Counter
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import av
import numpy as np

from crema_audio import sound as sounds
from crema_core.data.clips import Timeline, read_chosen, read_clip
from crema_core.data.sampling import middle_indices
from crema_core.errors import MediaError
from tests.support.ffmpeg import RATE_HZ, heard, program, shown
from tests.support.media_files import CUT_SHORT, WHOLE, make

MAX_TIME_S = 0.02
"""Times may differ by so much, a quarter of a frame at 12 frames a second."""
MAX_END_S = 0.1
"""The end may differ by about a frame, whose length many containers do not tell."""
MAX_LEVEL = 3.0
"""Mean difference of levels 0..255 that conversions from YUV make."""
WINDOW_S, MAX_LAG_S, LEAST_MATCH = 0.25, 0.03, 0.8
"""Sound is compared in windows; ffmpeg fills and trims from 0.1 s on. Agreement is a normalized correlation."""


def compare_clip(path: Path) -> str:
    """Return what differs from ffmpeg; nothing when all agrees."""
    right = shown(path)
    seen: list[Timeline] = []

    def every(timeline: Timeline) -> list[int]:
        seen[:] = [timeline]
        return list(range(len(timeline.starts_s)))

    frames = read_chosen(path, every).permute(0, 2, 3, 1).numpy()
    starts_s, finish_s = seen[0]
    if len(starts_s) != len(right.starts_s):
        return f"{len(starts_s)} pictures instead of {len(right.starts_s)}"
    if path.suffix == ".avi":  # it tells no presentation times, and ffmpeg adds the delay of the decoder
        starts_s = (np.array(starts_s) - starts_s[0] + right.starts_s[0]).tolist()
    if (worst := np.abs(np.subtract(starts_s, right.starts_s)).max()) > MAX_TIME_S:
        return f"times differ by {worst:.3f} s"
    if abs(finish_s - right.finish_s) > MAX_END_S:
        return f"ends at {finish_s:.3f} s instead of {right.finish_s:.3f} s"
    if frames.shape != right.pictures.shape:
        return f"pictures of shape {frames.shape[1:]} instead of {right.pictures.shape[1:]}"
    levels = np.abs(frames.astype(np.int16) - right.pictures).mean(axis=(1, 2, 3))
    if path.stem.startswith("lost"):  # every release of a decoder conceals losses in another way
        return ""
    limit = MAX_LEVEL * (4 if path.stem.startswith(("sizes", "interlaced")) else 1)  # scaled by another filter
    if levels.max() > limit:
        return f"picture {levels.argmax()} differs by {levels.max():.1f} levels"
    few = read_clip(path, num_frames=3).frames.permute(0, 2, 3, 1).numpy()
    wanted = right.pictures[middle_indices(len(right.starts_s), 3)]
    levels = np.abs(few.astype(np.int16) - wanted).mean(axis=(1, 2, 3))
    return f"sought pictures differ by {levels.max():.1f} levels" if levels.max() > limit else ""


def compare_sound(path: Path) -> str:
    """Return what differs from ffmpeg; nothing when all agrees."""
    right = heard(path, has_changes=path.stem.startswith(("mono-", "stereo-", "rates")))
    own = sounds.read_sound(path, sample_rate_hz=RATE_HZ)
    found = np.pad(own.samples.numpy(), (round(own.start_s * RATE_HZ), 0))
    if problem := _differences(found, right):
        return problem
    whole_s, sounds.LONG_S = sounds.LONG_S, 0.5
    try:
        long = sounds.open_sound(path, sample_rate_hz=RATE_HZ)
        edges = [*range(0, long.num_samples, RATE_HZ // 2), long.num_samples]
        parts = [long.part(low, high).numpy() for low, high in pairwise(edges)]
        begin = np.zeros(round(long.start_s * RATE_HZ), np.float32)
        problem = _differences(np.concatenate([begin, *parts]), right)
    finally:
        sounds.LONG_S = whole_s
    return problem and f"in windows {problem}"


def _differences(found: np.ndarray, right: np.ndarray) -> str:
    if abs(len(found) - len(right)) > 0.1 * RATE_HZ:
        return f"{len(found) / RATE_HZ:.3f} s instead of {len(right) / RATE_HZ:.3f} s"
    size, reach = round(WINDOW_S * RATE_HZ), round(MAX_LAG_S * RATE_HZ)
    around = np.pad(found, (reach, reach + size + max(len(right) - len(found), 0)))
    for low in range(0, len(right) - size + 1, size):
        wanted = right[low : low + size].astype(np.float64)
        heard_there = around[low : low + size + 2 * reach].astype(np.float64)
        energy = np.sqrt((wanted**2).sum())
        if energy < 0.01 * np.sqrt(size):
            middle = heard_there[reach : reach + size]
            if np.sqrt((middle**2).mean()) > 0.12 and energy < 1e-3:
                return f"sound at {low / RATE_HZ:.2f} s where there is none"
            continue
        sums = np.convolve(heard_there**2, np.ones(size), "valid")
        match = np.correlate(heard_there, wanted, "valid") / (energy * np.sqrt(np.maximum(sums, 1e-12)))
        if match.max() < LEAST_MATCH:
            return f"another sound at {low / RATE_HZ:.2f} s (match {match.max():.2f})"
    return ""


def compare_refusal(read: Callable[[], object]) -> str:
    """Return nothing when a reader says that a file is cut short."""
    try:
        read()
    except MediaError as error:
        return "" if "cut short" in str(error) else f"refused as: {error}"
    return "read without a word"


class Row(NamedTuple):
    """What came of one file and one reader."""

    name: str  # of the file
    reader: str  # "clip" or "sound"
    problem: str  # what differs; empty: nothing


def compare(name: str, folder: Path) -> list[Row]:
    """Write a file and compare it in every reader that takes it."""
    path = make(name, folder)
    try:
        with av.open(str(path)) as container:
            kinds = {stream.type for stream in container.streams}
    except av.FFmpegError:
        kinds = {"audio"} if path.suffix == ".m4a" else {"audio", "video"}
    readers: list[tuple[str, Callable[[], str]]] = []
    if name in CUT_SHORT:
        if "video" in kinds:
            readers.append(("clip", lambda: compare_refusal(lambda: read_clip(path, num_frames=3))))
        if "audio" in kinds:
            readers.append(("sound", lambda: compare_refusal(lambda: sounds.read_sound(path, sample_rate_hz=RATE_HZ))))
    else:
        if "video" in kinds:
            readers.append(("clip", lambda: compare_clip(path)))
        if "audio" in kinds:
            readers.append(("sound", lambda: compare_sound(path)))
    rows = []
    for reader, own in readers:
        try:
            rows.append(Row(name, reader, own()))
        except MediaError as error:
            rows.append(Row(name, reader, f"refused: {str(error)[:160]}"))
        except Exception as error:  # noqa: BLE001  # a reader that crashes is a result here
            rows.append(Row(name, reader, f"{type(error).__name__}: {str(error)[:120]}"))
    return rows


def main() -> None:
    """Compare all files and print those that differ."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", default="", help="files whose names contain this")
    parser.add_argument("--folder", type=Path, help="where the files are kept")
    arguments = parser.parse_args()
    if program() is None:
        raise SystemExit("This comparison needs the ffmpeg program: pip install imageio-ffmpeg.")
    with tempfile.TemporaryDirectory() as place:
        folder = arguments.folder or Path(place)
        folder.mkdir(parents=True, exist_ok=True)
        counts: Counter[tuple[str, bool]] = Counter()
        for name in (own for own in WHOLE | CUT_SHORT if arguments.only in own):
            for _, reader, problem in compare(name, folder):
                counts[reader, not problem] += 1
                if problem:
                    print(f"{name:24} {reader:6} {problem}", flush=True)
        for reader in ("clip", "sound"):
            right, all_of = counts[reader, True], counts[reader, True] + counts[reader, False]
            print(f"{reader}: {right} of {all_of} as ffmpeg has them")


if __name__ == "__main__":
    main()
