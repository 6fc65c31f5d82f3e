"""Filling the cache: every file of every modality through its frozen encoder, once, by one process or by several.

Which process meets which sample changes from epoch to epoch, so each needs every feature; encoding is what is shared.
Features in a folder are found there by all; those in memory are handed round.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from crema_core.common.processes import Processes
from crema_core.common.progress import StatusLine
from crema_core.data.data_file import Record, Source
from crema_core.data.dataset import TrainBatch, reason_of
from crema_core.data.order import cut, derive_seed
from crema_core.data.reading import Files
from crema_core.data.sampling import file_of
from crema_core.errors import CacheError, TrainingError
from crema_core.features.feature_cache import FeatureCache, prepare_batch
from crema_core.features.sources import Wanted, distinct, read_together, sharing
from crema_core.features.window import Window
from crema_core.modality import Features
from crema_core.model.allocator import retain_freed_memory
from crema_core.model.network import CremaNetwork
from crema_core.tokens import ModalityFeatures, ModalityInput

PIECE = 64
"""Encoder passes between two looks into the cache's folder; sources handed round at a time, so that few are in memory
twice."""


@dataclass(frozen=True)
class Shard:
    """One of `count` equal parts of the sources, chosen by their paths: nothing need be read to divide the work."""

    index: int = 0
    count: int = 1

    def has(self, source: Source) -> bool:
        """Return whether a source belongs to this part."""
        paths = [source] if isinstance(source, str) else source
        return derive_seed("share", *paths) % self.count == self.index


WHOLE = Shard()


def cacheable(model: CremaNetwork, names: Sequence[str]) -> tuple[str, ...]:
    """Return the modalities whose features may be kept: deterministic ones whose encoders are frozen."""
    specs = model.specs
    frozen = [name for name in names if not model.branch(name).modality.trainable]
    return tuple(name for name in frozen if specs[name].capabilities.deterministic)


def why_not_kept(model: CremaNetwork, names: Sequence[str]) -> str | None:
    """Return a sentence about the modalities whose features a cache does not keep because their encoders are trained.

    Args:
        model: a built model.
        names: modalities a cache is asked for.
    """
    trained = [name for name in names if model.branch(name).modality.trainable]
    if not trained:
        return None
    kept = ", ".join(cacheable(model, names)) or "none"
    return (
        f"cache: the encoder of {', '.join(trained)} is trainable, so its features change and are not kept; it runs "
        f"anew for every sample. Kept are the features of: {kept}."
    )


@dataclass(frozen=True)
class Filled:
    """What filling a cache did."""

    encoded: dict[str, int]  # sources that went through an encoder, by modality
    found: dict[str, int]  # sources whose features were there already, by modality
    written_bytes: int  # size of what was written to the cache's folder
    unreadable: int = 0  # sources passed over because they cannot be read

    @staticmethod
    def together(parts: Sequence[Filled]) -> Filled:
        """Return what several processes did."""
        encoded, found = (
            {name: sum(own[name] for own in counts) for name in counts[0]}
            for counts in ([own.encoded for own in parts], [own.found for own in parts])
        )
        written, unreadable = sum(own.written_bytes for own in parts), sum(own.unreadable for own in parts)
        return Filled(encoded, found, written, unreadable)

    def __str__(self) -> str:
        encoded, found = sum(self.encoded.values()), sum(self.found.values())
        written = f", {self.written_bytes / 1e6:,.1f} MB written" if self.written_bytes else ""
        passed_over = f", {self.unreadable:,} unreadable" if self.unreadable else ""
        return f"features: {encoded:,} sources encoded{written}, {found:,} from the cache{passed_over}"


class Unreadable:
    """Sources that cannot be read and are passed over, by modality and files, each with the reason.

    Args:
        known: found earlier; they are not read again. What is encoded beside them is the same as when they were read:
            a batch of an encoder has the other sources it had then.
        found: called with a new one, for example to stop when they are many.
    """

    def __init__(
        self,
        known: Mapping[Files, str] | None = None,
        *,
        found: Callable[[Files, str], None] = lambda files, reason: None,
    ) -> None:
        self.known = dict(known or {})
        self.reasons: dict[Files, str] = dict(self.known)
        self._found = found

    def add(self, files: Files, reason: str) -> None:
        """Note one; `found` may raise."""
        if files not in self.reasons:
            self.reasons[files] = reason
            self._found(files, reason)


def fill_shared(
    cache: FeatureCache,
    records: Sequence[Record],
    *,
    names: Sequence[str],
    batch_size: int,
    processes: Processes,
    num_workers: int = 0,
    status: StatusLine | None = None,
    unreadable: Unreadable | None = None,
) -> Filled:
    """Do what `fill_cache` does, each source in one of several processes, whose caches then hold everything.

    Args:
        cache, names, batch_size, num_workers, status: as for `fill_cache`.
        records: the same samples in all processes.
        processes: those that share the work.
        unreadable: as for `fill_cache`; afterwards all processes know those that any of them found.

    Returns:
        What all processes together did.

    Raises:
        TrainingError, MediaError: as `fill_cache`.
    """
    shard = Shard(processes.rank, processes.count)
    new: dict[str, list[Record]] = {name: [] for name in names}
    for name in names if cache.disk is None else ():
        mine = [own for own, _ in distinct(records, [name], shard.has)]
        new[name] = [own for own in mine if not cache.has(name, own.sources[name])]
    more: dict[str, Any] = {"batch_size": batch_size, "num_workers": num_workers, "status": status}
    filled = fill_cache(cache, records, names=names, shard=shard, unreadable=unreadable, **more)
    if processes.count == 1:
        return filled
    everyone = processes.gather(filled)
    if unreadable is not None:
        for reasons in processes.gather(unreadable.reasons):
            for files, reason in reasons.items():
                unreadable.add(files, reason)
    if cache.disk is None:
        for name in names:
            passed_over = () if unreadable is None else unreadable.reasons
            _hand_round(
                cache, name, [own for own in new[name] if (name, own.paths(name)) not in passed_over], processes
            )
    else:  # what did not fit into the folder is in the memory of one process, and the others encode it too
        known = None if unreadable is None else Unreadable(unreadable.reasons)
        fill_cache(cache, records, names=names, unreadable=known, **more)
    return Filled.together(everyone)


def _hand_round(cache: FeatureCache, name: str, mine: Sequence[Record], processes: Processes) -> None:
    pieces = cut(mine, PIECE)
    for number in range(max(processes.gather(len(pieces)))):
        sources = [own.sources[name] for own in pieces[number]] if number < len(pieces) else []
        parts = processes.gather([(source, cache.entry(name, source)) for source in sources])
        for rank, part in enumerate(parts):
            for source, stored in part if rank != processes.rank else ():
                cache.insert(name, source, stored)
        if cache.num_bytes > cache.limit_bytes:
            raise TrainingError(
                f"The features take more than cache_limit_gb={cache.limit_bytes / 1e9:g} GB of memory in each of the "
                f"{processes.count} processes, all of which need all of them. Raise cache_limit_gb, pass "
                'cache_precision="bf16" for half of it, cache="FOLDER" to keep them on disk, or cache="none" to '
                "encode every minibatch."
            )


@retain_freed_memory()
def fill_cache(
    cache: FeatureCache,
    records: Sequence[Record],
    *,
    names: Sequence[str],
    batch_size: int,
    num_workers: int = 0,
    status: StatusLine | None = None,
    shard: Shard = WHOLE,
    disk_only: bool = False,
    unreadable: Unreadable | None = None,
) -> Filled:
    """Encode the sources of `records` that the cache does not hold yet.

    Args:
        cache: is filled. What was encoded before an interruption or error is kept.
        records: samples; several may share a file.
        names: modalities to encode, each `cacheable`.
        batch_size: sources per encoder pass.
        num_workers: processes that read media.
        status: where progress is shown.
        shard: the part of the sources to look at, for several processes at one cache.
        disk_only: stop when the cache's folder is full, instead of keeping the rest in memory.
        unreadable: where sources go that cannot be read; None: the first of them is an error.

    Raises:
        TrainingError: as soon as it is clear that the features will not fit into memory.
        CacheError: with `disk_only`, when the folder is full.
        MediaError: when a source cannot be read, unless such are passed over.
    """
    written, done = cache.written_bytes, []
    try:
        for group in sharing(records, names):
            mine = list(distinct(records, group, shard.has))
            filling = _Filling(cache, group, mine, status, unreadable)
            done.append(filling)
            # In pieces, so that files are still in the system's memory from their digest when they are decoded.
            for piece in cut(mine, PIECE * batch_size):
                for _ in filling.run(piece, batch_size=batch_size, num_workers=num_workers):
                    filling.require_room(disk_only=disk_only)
            cache.flush()
            filling.require_room(disk_only=disk_only)
    finally:
        cache.flush()
    encoded = {name: own.encoded[name] for own in done for name in own.names}
    found = {name: own.found[name] for own in done for name in own.names}
    return Filled(encoded, found, cache.written_bytes - written, sum(own.unreadable for own in done))


def _note_equal(cache: FeatureCache, name: str, records: Sequence[Record], unreadable: Unreadable) -> int:
    """Note sources whose content is that of an unreadable one, of which one was read; return how many there are now."""
    reasons = {
        cache.content(own.sources[name]): reason
        for own in records
        if (reason := unreadable.reasons.get((name, own.paths(name)))) is not None
    }
    for own in records if reasons else ():
        if (reason := reasons.get(cache.content(own.sources[name]))) is not None:
            unreadable.add((name, own.paths(name)), reason)
    return sum((name, own.paths(name)) in unreadable.reasons for own in records)


class _Filling:
    """Modalities whose sources are read together: what has been done, its status line, and whether it will fit.

    Args:
        cache: is filled.
        names: the modalities.
        wanted: all that is to be looked at.
        status: where progress is shown.
        passed_over: where sources go that cannot be read; None: the first of them is an error.
    """

    def __init__(
        self,
        cache: FeatureCache,
        names: Sequence[str],
        wanted: Sequence[Wanted],
        status: StatusLine | None,
        passed_over: Unreadable | None,
    ) -> None:
        self.cache, self.names, self.status, self.passed_over = cache, tuple(names), status, passed_over
        self.total = {name: sum(name in own.names for own in wanted) for name in names}
        self.encoded, self.found, self.num_bytes = (dict.fromkeys(names, 0) for _ in range(3))
        self.unreadable = 0
        self._start_bytes = cache.num_bytes

    def run(self, piece: Sequence[Wanted], *, batch_size: int, num_workers: int) -> Iterator[None]:
        """Look for the features of a part of the sources, and encode those that are missing; yield after each pass."""
        records = {name: [own.record for own in piece if name in own.names] for name in self.names}
        missing: set[tuple[str, int]] = set()
        for name, given in records.items():
            new = _missing(self.cache, name, given, num_threads=num_workers)
            missing.update((name, id(own)) for own in new)
            self.found[name] += len(given) - len(new)
        self.show()
        model, passed_over = self.cache.model, self.passed_over
        wanted = [own.only(lambda name, record: (name, id(record)) in missing) for own in piece]
        batches = read_together(
            [own for own in wanted if own.names],
            {name: model.branch(name).modality for name in self.names},
            batch_size=batch_size,
            num_workers=num_workers,
            pass_over=passed_over is not None,
            known=lambda name, record: passed_over is not None and (name, record.paths(name)) in passed_over.known,
        )
        for batch in batches:
            for record, name, carried in batch.left_out:
                assert passed_over is not None, "only then sources are left out"
                passed_over.add((name, record.paths(name)), reason_of(record, carried))
            for name, features in model.encode(batch.modalities).items():
                self._keep(name, [batch.records[row] for row in batch.present[name].tolist()], features.features)
            self.show()
            yield
        if passed_over is not None:
            self.unreadable += sum(_note_equal(self.cache, name, records[name], passed_over) for name in self.names)

    def _keep(self, name: str, records: Sequence[Record], features: Features) -> None:
        before = self.cache.num_bytes
        self.cache.put(name, [own.sources[name] for own in records], features)
        self.num_bytes[name] += self.cache.num_bytes - before
        self.encoded[name] += len(records)

    def show(self) -> None:
        """Show how far it is, where that is shown."""
        if self.status is None:
            return
        found = sum(self.found.values())
        kept = f"{self.cache.num_bytes / 1e6:,.0f} MB kept"
        if not self.cache.in_memory:
            kept = f"{found:,} from the cache, {self.cache.written_bytes / 1e6:,.0f} MB written"
        count = 0 if self.passed_over is None else len(self.passed_over.reasons)
        kept += f", {count:,} unreadable" if count else ""
        done, total = sum(self.encoded.values()) + found, sum(self.total.values())
        self.status.show(f"encoding {', '.join(self.names)}: {done:,} of {total:,} sources, {kept}")

    def require_room(self, *, disk_only: bool) -> None:
        """Raise when what is left will not fit.

        Raises:
            CacheError: with `disk_only`, when the folder is full.
            TrainingError: when memory will not be enough.
        """
        cache, quoted = self.cache, " and ".join(f"'{name}'" for name in self.names)
        to_encode = {name: total - self.found[name] for name, total in self.total.items()}
        if disk_only and cache.in_memory:
            left = sum(to_encode[name] - self.encoded[name] + cache.num_unwritten(name) for name in self.names)
            raise CacheError(
                f"The feature cache has no room for {left:,} of {sum(self.total.values()):,} sources of "
                f"{quoted}. Nothing was deleted. Allow more, or make room with crema cache evict, and run this "
                "again."
            )
        expected = float(cache.num_bytes)
        if cache.disk is None:
            each = {name: self.num_bytes[name] / self.encoded[name] for name in self.names if self.encoded[name]}
            expected = max(expected, self._start_bytes + sum(each[name] * to_encode[name] for name in each))
        if expected > cache.limit_bytes:
            raise TrainingError(
                f"The features of {sum(to_encode.values()):,} sources of {quoted} need about {expected / 1e9:.3g} GB "
                "of memory together with those already kept, more than "
                f'cache_limit_gb={cache.limit_bytes / 1e9:g}. Raise cache_limit_gb, pass cache_precision="bf16" for '
                'half of it, cache="FOLDER" to keep them on disk, or cache="none" to encode every minibatch.'
            )


def _missing(cache: FeatureCache, name: str, records: Sequence[Record], *, num_threads: int) -> list[Record]:
    """Return the records whose source is not in the cache, one for each content."""
    cache.look(name, [record.sources[name] for record in records], num_threads=num_threads)
    contents = {cache.content(record.sources[name]): record for record in reversed(records)}
    wanted = {id(record) for record in contents.values()}
    return [record for record in records if id(record) in wanted and not cache.has(name, record.sources[name])]


def encode_for_training(
    model: CremaNetwork, cache: FeatureCache | None, batch: TrainBatch, window: Window | None = None
) -> dict[str, ModalityInput]:
    """Return what the tokens of a batch are made of: as `encode_batch`, and what trainable encoders read."""
    own = {name: prepared for name, prepared in batch.modalities.items() if model.branch(name).modality.trainable}
    frozen = {name: prepared for name, prepared in batch.modalities.items() if name not in own}
    encoded = model.encode(frozen)
    found: dict[str, ModalityInput] = dict(encoded if window is None else window.complete(batch, encoded))
    found |= model.encode_frozen(own) | ({} if cache is None else cache.features(batch))
    return {name: found[name] for name in batch.present}


def encode_batch(
    model: CremaNetwork, cache: FeatureCache | None, batch: TrainBatch, window: Window | None = None
) -> dict[str, ModalityFeatures]:
    """Return the features of a batch in the model's order: from the cache, the encoders, or the batches before it.

    Args:
        model: whose encoders run.
        cache: has the features of the modalities that were not read.
        batch: prepared samples.
        window: has those of sources that were read for other samples; None: each sample's own were read.
    """
    found = model.encode(batch.modalities)
    if window is not None:
        found = window.complete(batch, found)
    found |= {} if cache is None else cache.features(batch)
    return {name: found[name] for name in batch.present}


def read_ahead(batches: Iterable[TrainBatch], cache: FeatureCache | None) -> Iterator[TrainBatch]:
    """Yield the same batches, each when the next one's features are being read from the cache's folder."""
    if cache is None or cache.disk is None:
        yield from batches
        return
    held: TrainBatch | None = None
    for batch in batches:
        cache.will_need(batch)
        if held is not None:
            yield held
        held = batch
    if held is not None:
        yield held


@torch.no_grad()
def encode_sources(
    model: CremaNetwork, sources: Sequence[Mapping[str, Any]], cache: FeatureCache | None = None
) -> dict[str, ModalityFeatures]:
    """Return the features of several samples' raw sources, in the model's order.

    Modalities whose sources are files are taken from the cache, which is filled; the others are encoded.

    Args:
        model: whose encoders run.
        sources: by modality for each sample; an absent or None source is a missing modality.
        cache: of this model; None: everything is encoded.
    """
    given = {
        name: {row: own[name] for row, own in enumerate(sources) if own.get(name) is not None} for name in model.names
    }
    deterministic = () if cache is None else cacheable(model, model.names)
    kept = [name for name in deterministic if given[name] and all(map(_is_file, given[name].values()))]
    records = tuple(
        Record(str(row), "", "", {name: _as_source(given[name][row]) for name in kept if row in given[name]})
        for row in range(len(sources))
    )
    if cache is not None:
        fill_cache(cache, records, names=kept, batch_size=max(len(records), 1))
    rest = [{name: source for name, source in own.items() if name not in kept} for own in sources]
    present = {name: torch.tensor(list(rows), dtype=torch.int64) for name, rows in given.items() if rows}
    return encode_batch(model, cache, TrainBatch(records, present, prepare_batch(model, rest)))


def _is_file(source: Any) -> bool:
    # A path to nothing is left to the modality, which says best what it reads.
    paths = source if isinstance(source, list | tuple) else [source]
    return bool(paths) and all(
        isinstance(path, str | os.PathLike) and Path(file_of(str(path))).exists() for path in paths
    )


def _as_source(source: Any) -> Source:
    return [os.fspath(path) for path in source] if isinstance(source, list | tuple) else os.fspath(source)
