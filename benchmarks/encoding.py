"""(f) What `crema encode` costs for each clip, part by part: the figures for reckoning what a large data set takes.

H.264 clips of web size (a key frame every 250 frames) are written with a moving, grainy pattern, then read, decoded,
encoded with the ViT of the moderate sizes and kept, each part alone, and all by the job itself. At last an index of
many shards is opened. CPU seconds of one thread; the files are in the system's memory.

    python -m benchmarks.encoding [--clips 48 --seconds 10 --height 360]
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import av
import numpy as np
import torch

from benchmarks.measure import report
from benchmarks.moderate import moderate_backbone
from crema_core.api.build import build
from crema_core.api.encode_job import EncodeJob, encode
from crema_core.features.cache.keys import FileDigests
from crema_core.features.cache.store import FeatureStore, StoredFeatures, split, write_shard
from crema_core.modality import Features
from crema_core.model.settings import ModelSettings
from crema_core.tokens import ModalityBatch

Row = dict[str, object]
RATE, GRAIN, SOUND_HZ = 30, 20, 44_100
FULL_SIZE = (4, 257, 1408)
"""Steps, tokens and width of one source at the paper's size."""
SOURCES_PER_SHARD = 22
"""What 64 MB of features in bfloat16 at the paper's size make."""


def write_clips(folder: Path, count: int, *, seconds: int, height: int, with_sound: bool = False) -> list[Path]:
    """Write clips of a moving pattern with a little grain, which makes them about as large as filmed ones.

    With sound they have a noisy tone in stereo, coded as AAC.
    """
    width = height * 16 // 9 // 2 * 2
    paths = []
    for index in range(count):
        draw = np.random.default_rng(index)
        coarse = draw.integers(0, 256, (height // 8 + 1, width // 8 + 1, 3), dtype=np.uint8)
        picture = np.kron(coarse, np.ones((8, 8, 1), dtype=np.uint8))[:height, :width]
        paths.append(folder / f"{index}.mp4")
        with av.open(str(paths[-1]), "w") as container:
            stream = container.add_stream("libx264", rate=RATE)
            stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
            stream.options = {"preset": "veryfast", "g": "250"}
            track = container.add_stream("aac", rate=SOUND_HZ, layout="stereo") if with_sound else None
            for step in range(seconds * RATE):
                grain = draw.integers(0, GRAIN, picture.shape[:2], dtype=np.uint8)[..., None]
                pixels = np.roll(picture, 2 * step, axis=1) // 2 + grain
                frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
                container.mux(stream.encode(frame))
                if track is not None:
                    container.mux(track.encode(_noisy_tone(step, draw)))
            container.mux(stream.encode())
            if track is not None:
                container.mux(track.encode())
    return paths


def _noisy_tone(step: int, draw: np.random.Generator) -> av.AudioFrame:
    """Return the sound of one picture."""
    count = SOUND_HZ // RATE
    instants = np.arange(step * count, (step + 1) * count) / SOUND_HZ
    wave = 0.5 * np.sin(2 * np.pi * 440 * instants) + 0.05 * draw.standard_normal(count)
    frame = av.AudioFrame.from_ndarray(np.stack([wave, wave]).astype(np.float32), format="fltp", layout="stereo")
    frame.sample_rate, frame.pts = SOUND_HZ, step * count
    return frame


def by_part(paths: list[Path], backbone: Path | str, folder: Path) -> list[Row]:
    """Return the CPU seconds of every part of encoding one clip, each alone."""
    model = build(["video"], backbone=backbone)
    modality = model.branch("video").modality
    texts = [str(path) for path in paths]
    digests = FileDigests(folder / "digests")
    rows = [{"part": "read (digest)", "s_clip": cpu_seconds(lambda: [digests.of(own) for own in texts]) / len(texts)}]
    samples = []
    decoding = cpu_seconds(lambda: samples.extend(map(modality.prepare, texts)))
    rows.append({"part": "decode and prepare", "s_clip": decoding / len(texts)})
    batch = ModalityBatch(modality.collate(samples), torch.arange(len(texts)))
    model.encode({"video": batch})
    encoding = cpu_seconds(lambda: model.encode({"video": batch}))
    rows.append({"part": "encoder (ViT of 6 layers, 112 pixels)", "s_clip": encoding / len(texts)})
    full = random_entries(SOURCES_PER_SHARD, FULL_SIZE, torch.bfloat16)
    writing = cpu_seconds(lambda: write_shard(folder / "one.safetensors", full))
    rows.append({"part": "keep (features of the paper's size, bf16)", "s_clip": writing / SOURCES_PER_SHARD})
    return rows


def by_job(paths: list[Path], backbone: Path | str, folder: Path) -> Row:
    """Return the CPU seconds of the whole job for one clip, without those of building the model."""
    data_file = folder / "clips.jsonl"
    lines = [{"id": path.stem, "question": "?", "answer": "!", "video": str(path)} for path in paths]
    data_file.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    job = EncodeJob((str(data_file),), ("video",), str(folder / "cache"), ModelSettings(backbone=str(backbone)))
    building = cpu_seconds(lambda: build(["video"], backbone=backbone))
    done = []
    seconds = cpu_seconds(lambda: done.append(encode(job)))
    assert done[0].filled.encoded == {"video": len(paths)}, done[0].filled
    return {"part": "the whole job", "s_clip": (seconds - building) / len(paths)}


def index(num_shards: int, folder: Path) -> Row:
    """Return what opening a folder of many shards takes, for each shard and each source in it."""
    for shard in range(num_shards):
        entries = random_entries(SOURCES_PER_SHARD, (1, 1, 1), torch.float32, first=shard * SOURCES_PER_SHARD)
        write_shard(folder / f"{shard:020d}.safetensors", entries)
    stores = []
    seconds = cpu_seconds(lambda: stores.append(FeatureStore(folder, write=lambda path, entries: False)))
    tracemalloc.start()
    stores.append(FeatureStore(folder, write=lambda path, entries: False))
    added, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    num_sources = len(stores[0])
    assert num_sources == num_shards * SOURCES_PER_SHARD
    return {
        "part": "open the index",
        "ms_shard": 1e3 * seconds / num_shards,
        "bytes_source": round(added / num_sources),
    }


def random_entries(
    count: int, shape: tuple[int, int, int], dtype: torch.dtype, *, first: int = 0
) -> dict[str, StoredFeatures]:
    """Return features of `count` sources by made-up digests."""
    features = Features(torch.randn(count, *shape), torch.ones(count, shape[0], dtype=torch.bool))
    return {f"{first + row:040d}": own for row, own in enumerate(split(features, dtype=dtype))}


def cpu_seconds(task: Callable[[], object]) -> float:
    """Return the CPU seconds of all threads of this process that a task takes."""
    start = time.process_time()
    task()
    return time.process_time() - start


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--clips", type=int, default=48)
    parser.add_argument("--seconds", type=int, default=10)
    parser.add_argument("--height", type=int, default=360)
    parser.add_argument("--shards", type=int, default=2000)
    options = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        backbone = moderate_backbone(folder / "backbone")
        paths = write_clips(folder, options.clips, seconds=options.seconds, height=options.height)
        size = sum(path.stat().st_size for path in paths) / len(paths)
        rows = [*by_part(paths, backbone, folder), by_job(paths, backbone, folder)]
        (folder / "shards").mkdir()
        rows.append(index(options.shards, folder / "shards"))
    rounded = [{key: round(own, 5) if isinstance(own, float) else own for key, own in row.items()} for row in rows]
    report("encoding", rounded, unit="CPU seconds", clip_mb=round(size / 1e6, 2), frames=4)


if __name__ == "__main__":
    main()
