"""The files of samples, each read once: by whoever shares it, and for the first sample that names it.

Features are made of sources and not of samples, and often a recording is a source of several modalities: frames, sound
and measurements of one clip. Whoever goes through all sources before the first step, to fill a cache or to find what
cannot be read, reads such modalities together, sample by sample, so that the recording is decoded once
(`crema_core.data.reuse`). Modalities that share nothing are gone through one after the other.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

from crema_core.data.data_file import Record, Source
from crema_core.data.dataset import Key, ModalityDataset, TrainBatch, load_batches
from crema_core.data.order import cut
from crema_core.data.sampling import file_of
from crema_core.modality import Modality


class Wanted(NamedTuple):
    """A sample, and the modalities whose source is to be read for it."""

    record: Record
    names: tuple[str, ...]

    def only(self, has: Callable[[str, Record], bool]) -> Wanted:
        """Return it with the modalities for which `has` is true of them and the sample."""
        return Wanted(self.record, tuple(name for name in self.names if has(name, self.record)))


def distinct(
    records: Sequence[Record], names: Sequence[str], has: Callable[[Source], bool] = lambda source: True
) -> Iterator[Wanted]:
    """Yield records, each with the modalities whose files no record before it has; those without any are left out.

    Args:
        records: samples.
        names: modalities.
        has: whether a source is to be read here; another process may read it.
    """
    seen: dict[str, set[tuple[str, ...]]] = {name: set() for name in names}
    for record in records:
        new = [name for name in names if (paths := record.paths(name)) and paths not in seen[name]]
        for name in new:
            seen[name].add(record.paths(name))
        if wanted := tuple(name for name in new if has(record.sources[name])):
            yield Wanted(record, wanted)


def sharing(records: Sequence[Record], names: Sequence[str]) -> list[tuple[str, ...]]:
    """Return modalities in groups, in their order: those of a group read a file of some sample both, or a third does.

    >>> records = [Record("0", "?", "!", {"video": "a.mp4", "audio": "a.mp4#t=3,5", "depth": "a.npz"})]
    >>> sharing(records, ["video", "depth", "audio"])
    [('video', 'audio'), ('depth',)]
    """
    group = {name: name for name in names}
    for record in records:
        if len(set(group.values())) < 2:
            break
        reader: dict[str, str] = {}
        for name in names:
            for path in record.paths(name):
                one, other = group[name], group[reader.setdefault(file_of(path), name)]
                if one != other:
                    group = {own: other if label == one else label for own, label in group.items()}
    labels = dict.fromkeys(group.values())
    return [tuple(name for name in names if group[name] == label) for label in labels]


def read_together(
    wanted: Sequence[Wanted],
    modalities: Mapping[str, Modality],
    *,
    batch_size: int,
    num_workers: int = 0,
    pass_over: bool = False,
    known: Callable[[str, Record], bool] = lambda name, record: False,
) -> Iterator[TrainBatch]:
    """Read samples in batches, each sample with the modalities that are wanted of it.

    Args:
        wanted: what to read.
        modalities: that read, by name.
        batch_size: samples of a batch.
        num_workers: worker processes.
        pass_over: leave out the sources that cannot be read, each alone, and name them in `TrainBatch.left_out`.
        known: whether a source is known to be unreadable, and left out without being read. Batches are what they were
            when that was found.

    Raises:
        MediaError: when a source cannot be read, unless such are passed over.
    """
    left = [own.only(lambda name, record: not known(name, record)) for own in wanted]
    records = [replace(own.record, sources=_sources(own)) for own in left]
    dataset = ModalityDataset(records, modalities, major=next(iter(modalities)), apart=pass_over)
    batches = [[Key(0, row) for row in rows if left[row].names] for rows in cut(range(len(left)), batch_size)]
    batches = [own for own in batches if own]
    return load_batches(dataset, batches, num_workers=min(num_workers, len(batches)))


def _sources(own: Wanted) -> dict[str, Source]:
    return {name: own.record.sources[name] for name in own.names}
