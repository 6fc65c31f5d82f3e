"""(g) What reading a sample costs whose modalities are all in one clip: each for itself, together, and the limit.

H.264 clips with a track of AAC are read as `fit` and `evaluate` without a cache read them: four frames, two frames a
second, the sound. Apart, every modality decodes the file; together (`crema_core.data.reuse`) the frames of all come out
of one pass. The limit is one pass of PyAV over the same streams, of which nothing is kept. CPU seconds of one thread
for a clip, the three taking turns; the files are in the system's memory. Filling a cache (`crema encode`, `fit` with
one) goes through all files before the first step; there the encoders of crema-tiny are counted too.

    python -m benchmarks.reading [--heights 360 1080 --clips 1 --seconds 10 --repeats 5]
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
from collections.abc import Sequence
from pathlib import Path

import av
import torch

from benchmarks.encoding import write_clips
from benchmarks.measure import alternate, report
from crema_core.api.build import build
from crema_core.data import modality_calls
from crema_core.data.data_file import Record
from crema_core.data.reuse import one_sample
from crema_core.features.encode import fill_cache
from crema_core.features.feature_cache import FeatureCache
from crema_core.modality import Modality, Sample

SETS = (("video",), ("video", "audio"), ("video", "audio", "dense_video"))
SOUND = "audio"
Row = dict[str, object]


def apart(modalities: Sequence[Modality], path: str) -> list[Sample]:
    """Read a clip with one modality after the other."""
    return [modality_calls.prepare(modality, path) for modality in modalities]


def together(modalities: Sequence[Modality], path: str) -> list[Sample]:
    """Read a clip as one sample."""
    with one_sample([(modality, path) for modality in modalities]):
        return apart(modalities, path)


def decode(path: str, *, with_sound: bool) -> int:
    """Decode all of a clip and keep nothing; return the number of frames and of packets of sound."""
    with av.open(path) as container:
        streams = [container.streams.video[0], *(container.streams.audio if with_sound else ())]
        streams[0].thread_type = "AUTO"
        return sum(1 for _ in container.decode(streams))


def measure(paths: Sequence[str], names: Sequence[str], *, repeats: int) -> Row:
    """Return the CPU seconds of a clip: minimum, median and maximum of the turns.

    Args:
        paths: clips of one size.
        names: modalities, each of which reads all clips.
        repeats: turns after one that is not measured.
    """
    model = build(list(names), backbone="crema-tiny")
    modalities = [model.branch(name).modality for name in names]
    for path in paths:
        for one, other in zip(apart(modalities, path), together(modalities, path), strict=True):
            assert all(torch.equal(own, other.tensors[name]) for name, own in one.tensors.items())
    tasks = {
        "apart": lambda: [apart(modalities, path) for path in paths],
        "together": lambda: [together(modalities, path) for path in paths],
        "decoding alone": lambda: [decode(path, with_sound=SOUND in names) for path in paths],
    }
    turns = {name: [own / len(paths) for own in seconds] for name, seconds in alternate(tasks, repeats=repeats).items()}
    row: Row = {"modalities": " ".join(names)}
    for name, seconds in turns.items():
        row[name] = f"{min(seconds):.3f} {statistics.median(seconds):.3f} {max(seconds):.3f}"
    gained = statistics.median(a / b for a, b in zip(turns["apart"], turns["together"], strict=True))
    over = statistics.median(a / b for a, b in zip(turns["together"], turns["decoding alone"], strict=True))
    return row | {"apart / together": round(gained, 2), "together / decoding": round(over, 2)}


def fill(paths: Sequence[str], names: Sequence[str], *, repeats: int) -> Row:
    """Return what a new cache costs that is filled for one modality after the other, and for all together.

    Args:
        paths: clips of one size.
        names: modalities, each of which reads all clips.
        repeats: turns after one that is not measured.
    """
    model = build(list(names), backbone="crema-tiny")
    records = [Record(path, "?", "!", dict.fromkeys(names, path)) for path in paths]

    def filled(groups: Sequence[Sequence[str]]) -> FeatureCache:
        cache = FeatureCache(model)
        for group in groups:
            fill_cache(cache, records, names=group, batch_size=len(records))
        return cache

    one, other = filled([[name] for name in names]), filled([names])
    assert all(torch.equal(one.gather(name, paths).values, other.gather(name, paths).values) for name in names)
    turns = alternate(
        {"apart": lambda: filled([[name] for name in names]), "together": lambda: filled([names])}, repeats=repeats
    )
    row: Row = {"modalities": " ".join(names)}
    for name, seconds in turns.items():
        each = [own / len(paths) for own in seconds]
        row[name] = f"{min(each):.3f} {statistics.median(each):.3f} {max(each):.3f}"
    gained = statistics.median(a / b for a, b in zip(turns["apart"], turns["together"], strict=True))
    return row | {"apart / together": round(gained, 2)}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--heights", type=int, nargs="+", default=[360, 1080])
    parser.add_argument("--clips", type=int, default=1)
    parser.add_argument("--seconds", type=int, default=10)
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    torch.set_num_threads(1)
    rows: list[Row] = []
    fills: list[Row] = []
    for height in options.heights:
        with tempfile.TemporaryDirectory() as place:
            clips = write_clips(Path(place), options.clips, seconds=options.seconds, height=height, with_sound=True)
            paths = [str(path) for path in clips]
            rows += [{"height": height, **measure(paths, names, repeats=options.repeats)} for names in SETS]
            fills.append({"height": height, **fill(paths, SETS[-1], repeats=options.repeats)})
    report("reading", rows, unit="CPU seconds of a clip: minimum, median, maximum", seconds=options.seconds)
    report("filling a cache", fills, unit="CPU seconds of a clip: minimum, median, maximum", seconds=options.seconds)


if __name__ == "__main__":
    main()
