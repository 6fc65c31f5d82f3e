"""How fast, large and safe the candidates for the feature cache are: the measurement behind docs/cache.md.

Every format writes the same features (float32, a varying number of tokens) and reads them in the same random order into
one tensor; formats take turns in one run, so that other load on the machine meets all of them. "cold" drops the files
from the system's page cache before reading. "killed" kills the writing process half-way and then asks for every
sample; "flipped" flips one byte in the middle of the largest file. For both, `wrong` counts samples that came back with
other numbers than were written, without an error: the one thing a cache must not do.

LMDB takes part where it is installed. Prints a table and one line of JSON.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import mmap
import os
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import zlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

sys.path.insert(0, str(Path(__file__).parents[1]))

from crema_core.common.atomic import new_file
from crema_core.features.cache.folder import SHARD, new_name
from crema_core.features.cache.store import MappedShard, StoredFeatures, write_shard

Read = Callable[[str], Tensor]
Samples = Iterator[tuple[str, Tensor]]
SHARD_BYTES = 64 * 2**20
STEPS, TOKENS, WIDTH = 4, 65, 512


def sample(index: int) -> Tensor:
    """Features of one clip: `(4, 49..65, 512)`, the same whenever they are asked for."""
    generator = torch.Generator().manual_seed(index)
    tokens = TOKENS - index % 17
    return torch.randn(STEPS, tokens, WIDTH, generator=generator)


def samples(count: int) -> Samples:
    """Yield key and features of `count` clips."""
    for index in range(count):
        yield f"{index:040x}", sample(index)


def shards(stream: Samples) -> Iterator[dict[str, Tensor]]:
    """Gather samples until they fill a shard."""
    held: dict[str, Tensor] = {}
    size = 0
    for key, values in stream:
        held[key], size = values, size + values.nbytes
        if size >= SHARD_BYTES:
            yield held
            held, size = {}, 0
    if held:
        yield held


class MappedShards:
    """Safetensors shards with checksums, mapped by ourselves: what the package does."""

    name = "safetensors shards, mapped"

    def write(self, folder: Path, stream: Samples) -> None:
        for held in shards(stream):
            entries = {
                key: StoredFeatures(values, torch.ones(STEPS, dtype=torch.bool), None, torch.float32)
                for key, values in held.items()
            }
            write_shard(folder / f"{new_name()}{SHARD}", entries)

    def open(self, folder: Path, *, verify: bool) -> Read:
        opened = [MappedShard(path) for path in sorted(folder.glob(f"*{SHARD}"))]
        place = {key: shard for shard in opened for key in shard.entries}
        return lambda key: place[key].read(key, verify=verify).values


class LibraryShards(MappedShards):
    """The same files through the library's reader, which has no checksums."""

    name = "safetensors shards, safe_open"

    def open(self, folder: Path, *, verify: bool) -> Read:
        place: dict[str, Any] = {}
        for path in sorted(folder.glob(f"*{SHARD}")):
            handle = safe_open(path, "pt")
            place |= dict.fromkeys(handle.keys(), handle)
        return lambda key: place[f"{key}.values"].get_tensor(f"{key}.values")


class FilePerSample:
    """One safetensors file for each sample."""

    name = "safetensors, a file a sample"

    def write(self, folder: Path, stream: Samples) -> None:
        for key, values in stream:
            with new_file(folder / f"{key}{SHARD}") as temporary:
                save_file({"values": values}, temporary)

    def open(self, folder: Path, *, verify: bool) -> Read:
        def read(key: str) -> Tensor:
            with safe_open(folder / f"{key}{SHARD}", "pt") as handle:
                return handle.get_tensor("values")

        return read


class RawWithIndex:
    """Bytes appended to one file; a journal has a line with place, shape and checksum for each sample."""

    name = "raw .bin and journal"

    def write(self, folder: Path, stream: Samples) -> None:
        with (folder / "data.bin").open("wb") as data, (folder / "index.jsonl").open("w") as index:
            for held in shards(stream):
                lines = []
                for key, values in held.items():
                    content = values.numpy().tobytes()
                    lines.append(json.dumps([key, data.tell(), list(values.shape), zlib.crc32(content)]))
                    data.write(content)
                data.flush()
                os.fsync(data.fileno())
                index.write("\n".join(lines) + "\n")
                index.flush()
                os.fsync(index.fileno())

    def open(self, folder: Path, *, verify: bool) -> Read:
        entries = {}
        for line in (folder / "index.jsonl").read_text().splitlines():
            key, *entry = json.loads(line)
            entries[key] = entry
        with (folder / "data.bin").open("rb") as stream:
            mapped = mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_COPY)

        def read(key: str) -> Tensor:
            start, shape, checksum = entries[key]
            count = int(np.prod(shape))
            if verify and zlib.crc32(memoryview(mapped)[start : start + 4 * count]) != checksum:
                raise ValueError("damaged")
            return torch.frombuffer(mapped, dtype=torch.float32, count=count, offset=start).view(shape)

        return read


class NumpyMemmap:
    """One array for all, padded to the longest sample, made before it is filled."""

    name = "numpy memmap"

    def __init__(self, count: int) -> None:
        self.count = count

    def write(self, folder: Path, stream: Samples) -> None:
        shape = (self.count, STEPS, TOKENS, WIDTH)
        array = np.lib.format.open_memmap(folder / "data.npy", mode="w+", dtype=np.float32, shape=shape)
        lengths = np.lib.format.open_memmap(folder / "tokens.npy", mode="w+", dtype=np.int64, shape=(self.count,))
        for row, (_, values) in enumerate(stream):
            array[row, :, : values.shape[1]] = values.numpy()
            lengths[row] = values.shape[1]
        array.flush()
        lengths.flush()

    def open(self, folder: Path, *, verify: bool) -> Read:
        array = np.load(folder / "data.npy", mmap_mode="c")
        lengths = np.load(folder / "tokens.npy")
        return lambda key: torch.from_numpy(array[int(key, 16), :, : lengths[int(key, 16)]])


class Lmdb:
    """One LMDB environment, a transaction for each shard's worth."""

    name = "LMDB"

    def write(self, folder: Path, stream: Samples) -> None:
        import lmdb

        with lmdb.open(str(folder), map_size=2**40) as environment:
            for held in shards(stream):
                with environment.begin(write=True) as transaction:
                    for key, values in held.items():
                        head = np.array(values.shape, dtype=np.int64).tobytes()
                        transaction.put(key.encode(), head + values.numpy().tobytes())

    def open(self, folder: Path, *, verify: bool) -> Read:
        import lmdb

        environment = lmdb.open(str(folder), readonly=True, lock=False)
        transaction = environment.begin(buffers=True)

        def read(key: str) -> Tensor:
            content = np.frombuffer(transaction.get(key.encode()), dtype=np.uint8)
            shape = content[:24].view(np.int64).tolist()
            return torch.from_numpy(content[24:].view(np.float32).reshape(shape).copy())

        return read


def formats(count: int) -> dict[str, Any]:
    """Return the candidates by name."""
    found = [MappedShards(), LibraryShards(), FilePerSample(), RawWithIndex(), NumpyMemmap(count)]
    if importlib.util.find_spec("lmdb") is not None:
        found.append(Lmdb())
    return {own.name: own for own in found}


def drop_from_memory(folder: Path) -> None:
    """Ask the system to forget what it holds of these files."""
    for path in folder.iterdir():
        handle = os.open(path, os.O_RDONLY)
        os.posix_fadvise(handle, 0, 0, os.POSIX_FADV_DONTNEED)
        os.close(handle)


def time_reads(own: Any, folder: Path, keys: Sequence[str]) -> float:
    """Return samples a second, opening included."""
    target = torch.empty(STEPS, TOKENS, WIDTH)
    start = time.perf_counter()
    read = own.open(folder, verify=False)
    for key in keys:
        values = read(key)
        target[:, : values.shape[1]].copy_(values)
    return len(keys) / (time.perf_counter() - start)


def ask_all(own: Any, folder: Path, count: int) -> dict[str, int]:
    """Return for how many samples the right features, wrong ones or none came back."""
    found = {"right": 0, "wrong": 0, "none": 0}
    try:
        read = own.open(folder, verify=True)
    except Exception:  # noqa: BLE001 - each library has errors of its own
        return {**found, "none": count}
    for key, expected in samples(count):
        try:
            values = read(key)
            found["right" if torch.equal(values, expected) else "wrong"] += 1
        except Exception:  # noqa: BLE001
            found["none"] += 1
    return found


def ask_in_another_process(name: str, folder: Path, count: int) -> dict[str, int] | str:
    """The same in a process of its own, because reading a damaged file may end it."""
    command = [sys.executable, __file__, "--ask", name, str(folder), "--samples", str(count)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return json.loads(done.stdout) if done.returncode == 0 else f"reader ended with {done.returncode}"


def kill_half_way(name: str, folder: Path, count: int) -> dict[str, int] | str:
    """Write in another process, kill it half-way, ask."""
    command = [sys.executable, __file__, "--write", name, str(folder), "--samples", str(count)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    for line in process.stdout:
        if int(line) >= count // 2:
            process.kill()
            break
    process.wait()
    return ask_in_another_process(name, folder, count)


def flip_bytes(name: str, folder: Path, count: int) -> dict[str, int] | str:
    """Flip bytes at seven places of the largest file, ask."""
    path = max(folder.iterdir(), key=lambda entry: entry.stat().st_size)
    places = random.Random(0).sample(range(path.stat().st_size), 7)
    with path.open("r+b") as stream:
        for place in places:
            stream.seek(place)
            (byte,) = stream.read(1)
            stream.seek(-1, os.SEEK_CUR)
            stream.write(bytes([byte ^ 0x40]))
    return ask_in_another_process(name, folder, count)


def told(stream: Samples) -> Samples:
    """Print the number of each sample handed out, slowly enough to be killed."""
    for number, entry in enumerate(stream):
        print(number, flush=True)
        time.sleep(0.005)
        yield entry


def measure(place: Path, count: int, repeats: int) -> list[dict[str, Any]]:
    """Return a row for each format."""
    candidates = formats(count)
    keys = [key for key, _ in samples(count)]
    seen: dict[str, dict[str, list[float]]] = {name: {"write": [], "warm": [], "cold": []} for name in candidates}
    rows = {name: {"format": name} for name in candidates}
    content = list(samples(count))
    for repeat in range(repeats):
        random.Random(repeat).shuffle(keys)
        for number, (name, own) in enumerate(candidates.items()):
            folder = place / f"{number}"
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir()
            start = time.perf_counter()
            own.write(folder, iter(content))
            seen[name]["write"].append(sum(v.nbytes for _, v in content) / 1e6 / (time.perf_counter() - start))
            time_reads(own, folder, keys)
            seen[name]["warm"].append(time_reads(own, folder, keys))
            drop_from_memory(folder)
            seen[name]["cold"].append(time_reads(own, folder, keys))
    for number, name in enumerate(candidates):
        folder = place / f"{number}"
        files = [path for path in folder.iterdir() if path.is_file()]
        median = {key: statistics.median(own) for key, own in seen[name].items()}
        rows[name] |= {
            "write_mb_per_s": round(median["write"]),
            "warm_samples_per_s": round(median["warm"]),
            "cold_samples_per_s": round(median["cold"]),
            "mb": round(sum(path.stat().st_blocks * 512 for path in files) / 1e6, 1),
            "files": len(files),
        }
        rows[name]["flipped"] = flip_bytes(name, folder, count)
        shutil.rmtree(folder)
        folder.mkdir()
        rows[name]["killed"] = kill_half_way(name, folder, count)
    return list(rows.values())


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--samples", type=int, default=1000, help="about half a megabyte each")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--place", type=Path, default=None, help="a folder on the disk to measure; default: temporary")
    parser.add_argument("--write", nargs=2, metavar=("FORMAT", "FOLDER"), help=argparse.SUPPRESS)
    parser.add_argument("--ask", nargs=2, metavar=("FORMAT", "FOLDER"), help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    if options.write:
        formats(options.samples)[options.write[0]].write(Path(options.write[1]), told(samples(options.samples)))
        return 0
    if options.ask:
        own = formats(options.samples)[options.ask[0]]
        print(json.dumps(ask_all(own, Path(options.ask[1]), options.samples)))
        return 0
    with tempfile.TemporaryDirectory(dir=options.place) as place:
        rows = measure(Path(place), options.samples, options.repeats)
    print(f"{'format':<30} {'write MB/s':>10} {'warm /s':>8} {'cold /s':>8} {'MB':>7} {'files':>6}  killed / flipped")
    for row in rows:
        print(
            f"{row['format']:<30} {row['write_mb_per_s']:>10,} {row['warm_samples_per_s']:>8,} "
            f"{row['cold_samples_per_s']:>8,} {row['mb']:>7,} {row['files']:>6,}  {row['killed']} / {row['flipped']}"
        )
    print(json.dumps({"benchmark": "cache_formats", "samples": options.samples, "rows": rows}))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
