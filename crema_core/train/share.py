"""Filling the cache with several processes: each encodes its share of the files, then all get all features.

Which process meets which sample changes from epoch to epoch, so each needs every feature; encoding is what is shared.
"""

from __future__ import annotations

from collections.abc import Sequence

from crema_core.data.manifest import Record
from crema_core.data.order import cut
from crema_core.errors import TrainingError
from crema_core.train.cache import FeatureCache
from crema_core.train.encode import distinct, fill_cache
from crema_core.train.processes import Processes
from crema_core.train.progress import StatusLine

_PIECE = 64  # sources exchanged at a time, so that few are in memory twice


def fill_shared(
    cache: FeatureCache,
    records: Sequence[Record],
    *,
    names: Sequence[str],
    batch_size: int,
    processes: Processes,
    num_workers: int = 0,
    status: StatusLine | None = None,
) -> None:
    """Encode the sources of `records` that the cache does not hold yet, each in one process.

    Args:
        cache: is filled, in every process with everything.
        records: the same samples in all processes.
        names: senses to encode, each `cacheable`.
        batch_size: sources per encoder pass.
        processes: those that share the work.
        num_workers: worker processes of each that read media.
        status: where progress is shown.

    Raises:
        TrainingError: when the features do not fit.
        MediaError: when a source cannot be read.
    """
    for name in names:
        absent = [record for record in distinct(records, name) if (name, *record.paths(name)) not in cache]
        mine = processes.share(absent)
        fill_cache(cache, mine, names=[name], batch_size=batch_size, num_workers=num_workers, status=status)
        if processes.count == 1:
            continue
        pieces = cut(mine, _PIECE)
        for number in range(int(max(processes.gather(len(pieces))))):
            keys = [(name, *record.paths(name)) for record in pieces[number]] if number < len(pieces) else []
            for rank, part in enumerate(processes.gather([(key, *cache.entry(key)) for key in keys])):
                for key, stored, dtype in part if rank != processes.rank else ():
                    cache.adopt(key, stored, dtype=dtype)
            _refuse_too_large(cache, processes)


def _refuse_too_large(cache: FeatureCache, processes: Processes) -> None:
    if cache.num_bytes > cache.limit_bytes:
        raise TrainingError(
            f"The features take more than cache_limit_gb={cache.limit_bytes / 1e9:g} GB of memory in each of the "
            f"{processes.count} processes, all of which need all of them. Raise cache_limit_gb, pass "
            'cache_precision="bf16" for half of it, or cache="none" to encode every minibatch.'
        )
