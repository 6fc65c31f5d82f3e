"""One pass over every source before training or evaluation, after which it is known which samples can be used.

What training and evaluation do must be a function of the samples alone: batches, steps and learning rates. So samples
are not left out when their turn comes, but before the first step, and the list of them is kept with the run. With a
feature cache the pass is the one that fills it; sources whose features are not kept are read once more.
"""

from __future__ import annotations

from collections.abc import Sequence

from crema_core.common.processes import ALONE, Processes
from crema_core.common.progress import StatusLine
from crema_core.data.data_file import Record, Samples
from crema_core.data.dataset import reason_of
from crema_core.data.reading import Files
from crema_core.data.unusable import describe, refuse_many
from crema_core.errors import DataFileError
from crema_core.features.encode import Shard, Unreadable, cacheable, fill_shared
from crema_core.features.feature_cache import FeatureCache
from crema_core.features.sources import distinct, read_together, sharing
from crema_core.model.network import CremaNetwork


def find_unreadable(
    model: CremaNetwork,
    samples: Sequence[Samples],
    names: Sequence[str],
    *,
    cache: FeatureCache | None = None,
    known: Sequence[Samples] | None = None,
    batch_size: int = 16,
    num_workers: int = 0,
    processes: Processes = ALONE,
    status: StatusLine | None = None,
    max_skipped: float,
) -> list[Samples]:
    """Read every source of the usable samples once, and return the samples with what was found.

    Args:
        model: whose modalities read.
        samples: of one data file or several.
        names: modalities that are read.
        cache: is filled with the features of the sources that can be read.
        known: the same samples as an earlier pass returned them. Then only the cache is filled, with the same batches;
            what was unreadable is not read again.
        batch_size: sources per encoder pass.
        num_workers: processes that read media.
        processes: those that share the work; all of them return the same.
        status: where progress is shown.
        max_skipped: the largest share of the samples of a data file that may be unusable.

    Raises:
        DataFileError: as soon as more of them cannot be used, or a source became unreadable since an earlier pass.
    """
    watch = Watch(samples, max_skipped=max_skipped)
    unreadable = Unreadable(_reasons(known or ()), found=watch.add)
    records = [record for own in samples for record in own.usable]
    kept = () if cache is None else cacheable(model, names)
    if cache is not None:
        fill_shared(
            cache,
            records,
            names=kept,
            batch_size=batch_size,
            processes=processes,
            num_workers=num_workers,
            status=status,
            unreadable=unreadable,
        )
    if known is None:
        shard = Shard(processes.rank, processes.count)
        for group in sharing(records, [name for name in names if name not in kept]):
            _read(model, records, group, unreadable, shard, batch_size, num_workers, status)
        for reasons in processes.gather(unreadable.reasons):
            for files, reason in reasons.items():
                unreadable.add(files, reason)
    found = [own.without(unreadable.reasons) for own in samples]
    for now, before in zip(found, known or (), strict=False):
        _refuse_new(now, before)
    for own in found:
        if own.unusable:
            refuse_many(own, max_skipped=max_skipped)
    return found


def _refuse_new(now: Samples, before: Samples) -> None:
    known = {own.line for own in before.unusable}
    if new := [own for own in now.unusable if own.line not in known]:
        raise DataFileError(
            f"{describe(now._replace(unusable=new))}\nThe run left out the samples that could not be used when it "
            "began, and continues with the same ones. Restore these files, or start a new run with another out=."
        )


def _reasons(known: Sequence[Samples]) -> dict[Files, str]:
    """Return the unreadable sources that an earlier pass has found."""
    found: dict[Files, str] = {}
    for samples in known:
        records = dict(zip(samples.numbers, samples.records, strict=True))
        for own in samples.unusable:
            if own.why == "unreadable":
                found[own.modality, records[own.line].paths(own.modality)] = own.reason
    return found


class Watch:
    """Counts the samples that unreadable sources cost, and raises when they are too many."""

    def __init__(self, samples: Sequence[Samples], *, max_skipped: float) -> None:
        self.samples, self.max_skipped = list(samples), max_skipped
        self._users: list[dict[Files, list[int]]] = []
        self._lost: list[set[int]] = []
        for own in samples:
            users: dict[Files, list[int]] = {}
            for number, record in zip(own.numbers, own.records, strict=True):
                for name in record.sources:
                    users.setdefault((name, record.paths(name)), []).append(number)
            self._users.append(users)
            self._lost.append({one.line for one in own.unusable})
        self._reasons: dict[Files, str] = {}

    def add(self, files: Files, reason: str) -> None:
        """Note one unreadable source.

        Raises:
            DataFileError: when more samples than allowed cannot be used.
        """
        self._reasons[files] = reason
        for own, users, lost in zip(self.samples, self._users, self._lost, strict=True):
            lost.update(users.get(files, ()))
            if len(lost) > self.max_skipped * len(own.records):
                refuse_many(own.without(self._reasons), max_skipped=self.max_skipped)


def _read(
    model: CremaNetwork,
    records: Sequence[Record],
    names: Sequence[str],
    unreadable: Unreadable,
    shard: Shard,
    batch_size: int,
    num_workers: int,
    status: StatusLine | None,
) -> None:
    """Read this process's part of the sources of modalities whose features are not kept."""
    mine = list(distinct(records, names, shard.has))
    modalities = {name: model.branch(name).modality for name in names}
    done, total = 0, sum(len(own.names) for own in mine)
    for batch in read_together(mine, modalities, batch_size=batch_size, num_workers=num_workers, pass_over=True):
        for record, name, carried in batch.left_out:
            unreadable.add((name, record.paths(name)), reason_of(record, carried))
        done += sum(len(rows) for rows in batch.present.values()) + len(batch.left_out)
        if status is not None:
            count = len(unreadable.reasons)
            bad = f", {count:,} unreadable" if count else ""
            status.show(f"reading {', '.join(names)}: {done:,} of {total:,} sources{bad}")
