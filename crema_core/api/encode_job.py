"""Encoding a data set into a cache folder, in this process or several: what `crema encode` does.

Every process builds the model itself, takes the part of the sources that the hash of their paths gives it, and writes
shards of its own; nobody waits for anybody. What one process finished stays when another fails.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, Literal, NamedTuple

import torch

from crema_core.api.build import build
from crema_core.common.progress import StatusLine
from crema_core.common.workers import worker_processes
from crema_core.data.data_file import Samples, read_samples
from crema_core.data.unusable import MAX_SKIPPED, OnError, refuse_many, settle
from crema_core.errors import CacheError, CremaError
from crema_core.features.cache.store import DiskCache
from crema_core.features.encode import Filled, Shard, Unreadable, cacheable, fill_cache, why_not_kept
from crema_core.features.feature_cache import FeatureCache
from crema_core.features.readable import Watch
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
    on_error: OnError = "stop"  # what is done about samples whose files cannot be used
    max_skipped: float = MAX_SKIPPED  # the largest share of the samples of a data file that "skip" leaves out


class Encoded(NamedTuple):
    """What came of it."""

    filled: Filled
    samples: list[Samples]  # of every data file, with those that were left out


def encode(job: EncodeJob, *, status: StatusLine | None = None) -> Encoded:
    """Encode what the cache does not hold yet.

    Raises:
        CacheError: when the folder cannot be a cache, or is full.
        BuildError: when the modalities cannot be built.
        DataFileError: for unusable data, or more samples with unusable files than may be left out.
        MediaError: when a source cannot be read, unless `on_error` is "skip".
    """
    disk = DiskCache(job.folder, limit_bytes=job.limit_bytes)
    model = build(job.modalities, job.model, device=job.device or default_device())
    model.backbone.require_weights()
    skips = job.on_error == "skip"
    samples = [read_samples(place, modalities=model.names, specs=model.specs) for place in job.data]
    settle(samples, on_error=job.on_error, max_skipped=job.max_skipped)
    watch = Watch(samples, max_skipped=job.max_skipped)
    unreadable = Unreadable(found=watch.add) if skips else None
    if status is not None and (skipped := why_not_kept(model, model.names)) is not None:
        status.note(skipped)
    dtype = DTYPES[job.cache_precision] if job.cache_precision != "fp32" else None
    with computing_in(job.precision, model.device):
        filled = fill_cache(
            FeatureCache(model, dtype=dtype, disk=disk),
            [record for own in samples for record in own.usable],
            names=cacheable(model, model.names),
            batch_size=job.batch_size,
            num_workers=job.num_workers,
            status=status,
            shard=job.shard,
            disk_only=True,
            unreadable=unreadable,
        )
    return Encoded(filled, samples if unreadable is None else [own.without(unreadable.reasons) for own in samples])


def encode_in_processes(job: EncodeJob, num_processes: int) -> Encoded:
    """Encode in several processes of this machine; the first one shows its progress.

    Raises:
        CremaError: what the first process that failed raised; what was encoded is kept.
        CacheError: when a process was killed.
        DataFileError: when more samples cannot be used than may be left out.
    """
    jobs = [
        replace(
            job,
            shard=Shard(job.shard.index * num_processes + rank, job.shard.count * num_processes),
            device=_device_of(job.device, rank),
        )
        for rank in range(num_processes)
    ]
    threads = max(1, torch.get_num_threads() // num_processes)
    try:
        with worker_processes(num_processes, begin=partial(_start, threads)) as submit:
            results = [own.result() for own in [submit(_encode_here, own, rank) for rank, own in enumerate(jobs)]]
    except BrokenProcessPool as error:
        raise CacheError(
            f"One of {num_processes} encoding processes was ended from outside, most often for lack of memory. What "
            "was written before is kept. Run the same command again, with fewer --processes or a smaller --batch-size."
        ) from error
    for result in results:
        if isinstance(result, str):
            raise CremaError(result)
    done = [result for result in results if isinstance(result, Encoded)]
    samples = [_together(own) for own in zip(*(one.samples for one in done), strict=True)]
    for own in samples:
        if own.unusable:
            refuse_many(own, max_skipped=job.max_skipped)
    return Encoded(Filled.together([one.filled for one in done]), samples)


def _together(parts: Sequence[Samples]) -> Samples:
    """Return the samples of one data file with what several processes found unusable."""
    unusable = {one.line: one for part in reversed(parts) for one in part.unusable}
    return parts[0]._replace(unusable=[unusable[line] for line in sorted(unusable)])


def _start(threads: int) -> None:
    torch.set_num_threads(threads)
    warnings.formatwarning = lambda message, *_, **__: f"crema: warning: {message}\n"


def _encode_here(job: EncodeJob, rank: int) -> Encoded | str:
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
