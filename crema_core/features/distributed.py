"""Filling the cache with several processes: each encodes its share of the sources, then all have all features.

Which process meets which sample changes from epoch to epoch, so each needs every feature; encoding is what is shared.
Features in a folder are found there by all; those in memory are handed round.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from crema_core.common.processes import Processes
from crema_core.common.progress import StatusLine
from crema_core.data.manifest import Record
from crema_core.data.order import cut
from crema_core.errors import TrainingError
from crema_core.features.encode import Filled, Share, distinct, fill_cache
from crema_core.features.feature_cache import FeatureCache

_PIECE = 64  # sources handed round at a time, so that few are in memory twice


def fill_shared(
    cache: FeatureCache,
    records: Sequence[Record],
    *,
    names: Sequence[str],
    batch_size: int,
    processes: Processes,
    num_workers: int = 0,
    status: StatusLine | None = None,
) -> Filled:
    """Encode the sources of `records` that the cache does not hold yet, each in one process.

    Args:
        cache: is filled, in every process with everything.
        records: the same samples in all processes.
        names: senses to encode, each `cacheable`.
        batch_size: sources per encoder pass.
        processes: those that share the work.
        num_workers: worker processes of each that read media.
        status: where progress is shown.

    Returns:
        What all processes together did.

    Raises:
        TrainingError: when the features do not fit.
        MediaError: when a source cannot be read.
    """
    share = Share(processes.rank, processes.count)
    new = {
        name: [own for own in distinct(records, name) if share.has(own.sources[name])] if cache.disk is None else []
        for name in names
    }
    new = {name: [own for own in mine if not cache.has(name, own.sources[name])] for name, mine in new.items()}
    filled = fill_cache(
        cache,
        records,
        names=names,
        batch_size=batch_size,
        num_workers=num_workers,
        status=status,
        share=share,
    )
    if processes.count == 1:
        return filled
    everyone = processes.gather(filled)
    if cache.disk is None:
        for name in names:
            _hand_round(cache, name, new[name], processes)
    else:  # what did not fit into the folder is in the memory of one process, and the others encode it too
        fill_cache(cache, records, names=names, batch_size=batch_size, num_workers=num_workers, status=status)
    return Filled(
        dict(sum((Counter(own.encoded) for own in everyone), Counter())),
        dict(sum((Counter(own.found) for own in everyone), Counter())),
        sum(own.written_bytes for own in everyone),
    )


def _hand_round(cache: FeatureCache, name: str, mine: Sequence[Record], processes: Processes) -> None:
    pieces = cut(mine, _PIECE)
    for number in range(max(processes.gather(len(pieces)))):
        sources = [own.sources[name] for own in pieces[number]] if number < len(pieces) else []
        parts = processes.gather([(source, cache.entry(name, source)) for source in sources])
        for rank, part in enumerate(parts):
            for source, stored in part if rank != processes.rank else ():
                cache.adopt(name, source, stored)
        if cache.num_bytes > cache.limit_bytes:
            raise TrainingError(
                f"The features take more than cache_limit_gb={cache.limit_bytes / 1e9:g} GB of memory in each of the "
                f"{processes.count} processes, all of which need all of them. Raise cache_limit_gb, pass "
                'cache_precision="bf16" for half of it, cache="FOLDER" to keep them on disk, or cache="none" to '
                "encode every minibatch."
            )
