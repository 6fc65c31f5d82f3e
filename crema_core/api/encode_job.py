"""Encoding a data set into a cache folder, in this process or several: what `crema encode` does.

Every process builds the model itself, takes the part of the sources that the hash of their paths gives it, and writes
shards of its own; nobody waits for anybody. What one process finished stays when another fails.
"""

from __future__ import annotations

import multiprocessing
import warnings
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import torch

from crema_core.api.build import build
from crema_core.common.progress import StatusLine
from crema_core.data.data_file import Record, read_data_file
from crema_core.errors import CacheError, CremaError
from crema_core.features.cache.store import DiskCache
from crema_core.features.encode import Filled, Shard, cacheable, fill_cache, why_not_kept
from crema_core.features.feature_cache import FeatureCache
from crema_core.model.precision import DTYPES, computing_in
from crema_core.model.settings import ModelSettings

Precision = Literal["fp32", "bf16"]


@dataclass(frozen=True)
class EncodeJob:
    """What to encode, where to, and how; travels to other processes, so it must pickle."""

    data: tuple[str, ...]  # data files
    modalities: tuple[Any, ...]  # modalities, as `crema_core.build` takes them
    folder: str  # of the cache
    model: ModelSettings = field(default_factory=ModelSettings)  # what else `crema_core.build` is given
    precision: Precision = "fp32"  # number format encoders compute in, as in training
    cache_precision: Precision = "fp32"  # number format of what is kept; fp32: as encoded
    batch_size: int = 16  # sources per encoder pass
    num_workers: int = 0  # processes that read media, for each encoding process
    limit_bytes: float = float("inf")  # size of the folder at which writing stops
    # for example "cuda"; None: as in training, a GPU where there is one. Several processes take turns at the GPUs of a
    # machine.
    device: str | None = None
    shard: Shard = field(default_factory=Shard)  # the part of the sources to encode


def encode(job: EncodeJob, *, status: StatusLine | None = None) -> Filled:
    """Encode what the cache does not hold yet.

    Raises:
        CacheError: when the folder cannot be a cache, or is full.
        BuildError: when the modalities cannot be built.
        DataFileError: for unusable data.
        MediaError: when a source cannot be read.
    """
    disk = DiskCache(job.folder, limit_bytes=job.limit_bytes)
    model = build(job.modalities, job.model, device=job.device or default_device())
    model.backbone.require_weights()
    records: list[Record] = []
    for place in job.data:
        records += read_data_file(place, modalities=model.names)
    if status is not None and (skipped := why_not_kept(model, model.names)) is not None:
        status.note(skipped)
    dtype = DTYPES[job.cache_precision] if job.cache_precision != "fp32" else None
    with computing_in(job.precision, model.device):
        return fill_cache(
            FeatureCache(model, dtype=dtype, disk=disk),
            records,
            names=cacheable(model, model.names),
            batch_size=job.batch_size,
            num_workers=job.num_workers,
            status=status,
            shard=job.shard,
            disk_only=True,
        )


def encode_in_processes(job: EncodeJob, num_processes: int) -> Filled:
    """Encode in several processes of this machine; the first one shows its progress.

    Raises:
        CremaError: what the first process that failed raised; what was encoded is kept.
        CacheError: when a process was killed.
    """
    jobs = [
        replace(
            job,
            shard=Shard(job.shard.index * num_processes + rank, job.shard.count * num_processes),
            device=_device_of(job.device, rank),
        )
        for rank in range(num_processes)
    ]
    context = multiprocessing.get_context("spawn")
    threads = max(1, torch.get_num_threads() // num_processes)
    with ProcessPoolExecutor(num_processes, context, initializer=_start, initargs=(threads,)) as pool:
        try:
            results = list(pool.map(_encode_here, jobs, range(num_processes)))
        except BrokenProcessPool as error:
            raise CacheError(
                f"One of {num_processes} encoding processes was ended from outside, most often for lack of memory. "
                "What was written before is kept. Run the same command again, with fewer --processes or a smaller "
                "--batch-size."
            ) from error
    for result in results:
        if isinstance(result, str):
            raise CremaError(result)
    return Filled.together([result for result in results if isinstance(result, Filled)])


def _start(threads: int) -> None:
    torch.set_num_threads(threads)
    warnings.formatwarning = lambda message, *_, **__: f"crema: warning: {message}\n"


def _encode_here(job: EncodeJob, rank: int) -> Filled | str:
    """Return what was done, or the text of our own error: not all of them survive pickling."""
    status = StatusLine(enabled=rank == 0)
    try:
        return encode(job, status=status)
    except CremaError as error:
        return str(error)
    finally:
        status.done()


def default_device() -> str:
    """Return where encoders run when nobody says: a GPU where there is one."""
    return "cuda" if torch.cuda.is_available() else "cpu"


def _device_of(device: str | None, rank: int) -> str:
    device = device or default_device()
    return f"cuda:{rank % max(1, torch.cuda.device_count())}" if device == "cuda" else device
