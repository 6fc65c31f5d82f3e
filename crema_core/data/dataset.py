"""Records as prepared samples, and these as batches in a given order.

An item is asked for by (epoch, index), not by index alone, so that modality dropout is a function of the position and
worker processes need not be told when an epoch begins.
"""

from __future__ import annotations

import io
import multiprocessing
import os
import pickle
import re
import signal
import sys
import threading
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from multiprocessing.process import BaseProcess
from types import TracebackType
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, get_worker_info

from crema_core.common.parent import leave_stopping_to_parent, watch_parent
from crema_core.data import modality_calls
from crema_core.data.data_file import Record
from crema_core.data.doubts import Doubt, collect_doubts, say_once
from crema_core.data.limits import MAX_SECONDS, ending_process, max_seconds
from crema_core.data.modality_calls import Carried, is_about_a_dead_worker, name_source
from crema_core.data.order import kept_modalities
from crema_core.data.reuse import one_sample
from crema_core.errors import CremaError, MediaError, WorkerError, first_line
from crema_core.modality import Modality, Sample
from crema_core.tokens import ModalityBatch


class Key(NamedTuple):
    """What is asked for."""

    epoch: int
    sample: int  # index of the record
    held: tuple[str, ...] = ()  # modalities whose sources another sample brings, see `crema_core.features.window`


def load_batches(
    dataset: ModalityDataset,
    batches: Sequence[Sequence[Key]],
    *,
    num_workers: int = 0,
    seed: int = 0,
    pass_over: bool = False,
) -> Iterator[TrainBatch]:
    """Yield one batch per entry of `batches`, in that order.

    Args:
        dataset: what prepares the samples.
        batches: keys of each batch.
        num_workers: worker processes; 0 prepares in this one.
        seed: of the workers; a generator of its own, so that the global random state is not touched.
        pass_over: leave samples with an unreadable source out of their batch, which names them.

    Raises:
        MediaError: when a source cannot be read, naming the sample, unless such samples are passed over.
        ContractError: when a modality raises or returns what it must not, naming it and the sample.
        WorkerError: when a worker process ends, naming the source that it was reading.
    """
    current = _Current(num_workers)
    loader = DataLoader(
        dataset,
        batch_sampler=[list(batch) for batch in batches],
        collate_fn=partial(_collate_shared, modalities=dataset.modalities, pass_over=pass_over),
        num_workers=num_workers,
        worker_init_fn=current.begin,
        generator=torch.Generator().manual_seed(seed),
    )
    batches_read = iter(loader)
    current.begun(multiprocessing.active_children() if num_workers else [])
    held = _HeldBack()
    while True:
        try:
            held.deliver()
            batch = next(batches_read)
        except StopIteration:
            return
        except RuntimeError as error:
            if not is_about_a_dead_worker(error):
                raise
            lost = current.lost(dataset, error)
            _forget_frames(error)
            del batches_read
            raise lost from error
        if isinstance(batch, Carried):
            # Workers end here. An error keeps the iterator alive in its traceback, and a collection that happens in the
            # thread which feeds them would wait five seconds for each.
            del batches_read
            raise batch.error
        for record, own in batch.doubts:  # here, because every worker would say it again
            say_once(own, where=f"line {record.line}" if record.line else "")
        with held:
            yield batch


def _forget_frames(error: BaseException) -> None:
    """Drop the tracebacks of an error and of those behind it: they keep the iterator, and it keeps the other workers.

    torch has one behind its own where a worker ended while it was waited for.
    """
    left, seen = [error], set[int]()
    while left:
        own = left.pop()
        if id(own) not in seen:
            seen.add(id(own))
            own.__traceback__ = None
            left += [behind for behind in (own.__cause__, own.__context__) if behind is not None]


class _HeldBack:
    """Holds back, while a batch is used, the signal that a child process has ended.

    At that signal torch raises an error about a worker in whatever code the main process runs: mostly in the middle of
    a training step. Delivered when the next batch is asked for, it can be understood there.
    """

    def __init__(self) -> None:
        self._before: Any = None
        self._has_come = False

    def __enter__(self) -> None:
        if _takes_signals():
            self._before = signal.signal(signal.SIGCHLD, self._note)

    def _note(self, number: int, frame: object) -> None:
        self._has_come = True

    def __exit__(self, *error: object) -> None:
        if self._before is not None and _takes_signals():
            signal.signal(signal.SIGCHLD, self._before)

    def deliver(self) -> None:
        """Send the signal that was held back, if there was one; torch's handler raises where a worker has failed."""
        if self._has_come:
            self._has_come = False
            signal.raise_signal(signal.SIGCHLD)


def _takes_signals() -> bool:
    return sys.platform != "win32" and threading.current_thread() is threading.main_thread()


class _Current:
    """What each worker is reading, in memory that the main process can look at when a worker has ended.

    Args:
        num_workers: how many there are.
    """

    def __init__(self, num_workers: int) -> None:
        # Of each worker its process, the record and the modality, from 1; 0: none.
        self._numbers = multiprocessing.RawArray("q", 3 * num_workers) if num_workers else []
        self._num_workers = num_workers
        self._start = 0
        self._processes: list[BaseProcess] = []

    def begun(self, processes: Sequence[BaseProcess]) -> None:
        """Take the workers' processes, among others, in the main process: torch does not always say how one ended.

        Where it finds one gone before the signal of its end arrives, it says that it "exited unexpectedly".
        """
        self._processes = list(processes)

    def begin(self, worker: int) -> None:
        """Begin in a worker process."""
        global _current
        leave_stopping_to_parent()
        _say_nothing_of_lost_connections()
        # torch's own watchdog looks only between two batches; a reader that hangs would stay for ever.
        watch_parent()
        self._start = 3 * worker
        self._numbers[self._start] = os.getpid()
        _current = self

    @contextmanager
    def reading(self, record: int, modality: int) -> Iterator[None]:
        """Note what is read inside the block, which ends this process when it takes much too long."""
        with ending_process():
            self._numbers[self._start + 1], self._numbers[self._start + 2] = record + 1, modality + 1
            try:
                yield
            finally:
                self._numbers[self._start + 1] = 0

    def lost(self, dataset: ModalityDataset, error: RuntimeError) -> WorkerError:
        """Return the error for a worker that has ended, with what it was reading.

        Args:
            dataset: what the workers read.
            error: of torch, which names processes.
        """
        told = first_line(error)
        processes = re.search(r"\(pid(?:\(s\))? ([\d, ]+)\)", told)
        named = set(map(int, processes[1].split(","))) if processes else set()
        codes = [own.exitcode for own in self._processes if own.pid in named]
        ended_by = [-code for code in codes if code is not None and code < 0]
        if ended_by:
            which = ", ".join(map(str, sorted(named)))
            told = f"DataLoader worker (pid {which}) is killed by signal: {signal.strsignal(ended_by[0])}"
        sources, names = [], list(dataset.modalities)
        for start in range(0, 3 * self._num_workers, 3):
            process, record_number, modality = self._numbers[start : start + 3]
            if process in named and record_number:
                record, name = dataset.records[record_number - 1], names[modality - 1]
                sources.append(f"{name_source(record.sources[name])} with '{name}' for {_name(record, 'sample')}")
        if not sources:
            return WorkerError(
                f"A worker process ended ({told}), and it was not reading a source. It may have been ended by "
                "somebody, or by the system because memory ran out. Use fewer num_workers, or num_workers=0."
            )
        is_slow = sys.platform != "win32" and signal.SIGALRM in ended_by
        slow = f" It took longer than {max_seconds():g} s ({MAX_SECONDS})." if is_slow else ""
        return WorkerError(
            f"A worker process ended while it read {' or '.join(sources)} ({told}).{slow} A source is read or refused "
            "with an error; one that is damaged can make a decoder crash or take all memory. Find every such source: "
            "crema data check --deep FILE.jsonl. Of a process that was killed, use fewer num_workers."
        )


def _say_nothing_of_lost_connections() -> None:
    """Let threads that hand tensors over end without a traceback where the process they hand them to was killed.

    Whoever started the processes says which of them was. What a worker raises while it reads goes another way.
    """
    others = sys.excepthook

    def said(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        if not isinstance(error, ConnectionError | EOFError):
            others(kind, error, trace)

    sys.excepthook = said


_current: _Current | None = None
"""Of this process, where it is a worker."""


def _noted(record: int, modality: int) -> AbstractContextManager[None]:
    return nullcontext() if _current is None else _current.reading(record, modality)


def _collate_shared(
    items: Sequence[Item], *, modalities: Mapping[str, Modality], pass_over: bool
) -> TrainBatch | Carried:
    """Collate; in a worker, move the tensors to shared memory here, where a failure can be told.

    torch does it in a thread that prints what it raises, drops the batch, and lets the main process wait for ever.
    """
    batch = collate(items, modalities=modalities, pass_over=pass_over)
    if get_worker_info() is None or isinstance(batch, Carried):
        return batch
    try:
        _Sharer(io.BytesIO()).dump(batch)
    except RuntimeError as error:
        if "Too many open files" in str(error):
            return Carried(
                WorkerError(
                    f"Too many files are open at once ({first_line(error)}): workers hand each tensor over as one. "
                    "Needed is a higher limit, which ulimit -n prints. Raise it, for example with ulimit -n 1024, or "
                    "use fewer num_workers, or num_workers=0."
                )
            )
        if "shared memory" not in str(error) and "No space left" not in str(error):
            raise
        return Carried(
            WorkerError(
                f"The shared memory is used up ({first_line(error)}). Workers hand batches over in /dev/shm, which "
                "containers keep small (64 MB in Docker). Give it more (docker run --shm-size=8g, in Kubernetes an "
                "emptyDir of medium Memory at /dev/shm), or use fewer num_workers, a smaller batch_size or "
                "num_workers=0."
            )
        )
    return batch


class _Sharer(pickle.Pickler):
    """Moves every tensor of what it is given to shared memory; what it writes is of no use."""

    def persistent_id(self, own: object) -> object:
        if not isinstance(own, Tensor):
            return None
        own.share_memory_()
        return id(own)


@dataclass(frozen=True)
class Item:
    """One sample of a batch to be."""

    record: Record  # the line it comes from
    modalities: tuple[str, ...]  # the modalities it has and keeps, in the model's order
    samples: dict[str, Sample]  # prepared sources of those modalities whose features are not known
    # why a source could not be read, None when all could. Carried instead of raised, because a worker's exception
    # arrives in the main process as a stack trace.
    problem: Carried | None = None
    left_out: tuple[tuple[str, Carried], ...] = ()  # modalities it lacks because their source cannot be read, and why
    doubts: tuple[Doubt, ...] = ()  # what looks wrong about sources that were read


class ModalityDataset(Dataset[Item]):
    """Map-style data set over records.

    Args:
        records: the samples.
        modalities: the modalities to use, by name, in the model's order.
        major: name of the major modality.
        seed: of the run, for modality dropout.
        dropout: probability with which a supporting modality of a sample is left out.
        drop_major: whether the major modality is dropped too.
        cached: modalities whose sources need not be prepared, because their features are known already.
        apart: whether a sample with a source that cannot be read keeps its other modalities, instead of being a problem
            as a whole.
    """

    def __init__(
        self,
        records: Sequence[Record],
        modalities: Mapping[str, Modality],
        *,
        major: str,
        seed: int = 0,
        dropout: float = 0.0,
        drop_major: bool = False,
        cached: Collection[str] = (),
        apart: bool = False,
    ) -> None:
        self.records, self.modalities, self.major, self.apart = records, dict(modalities), major, apart
        self.seed, self.dropout, self.drop_major, self.cached = seed, dropout, drop_major, frozenset(cached)

    def __len__(self) -> int:
        return len(self.records)

    def kept(self, key: Key) -> tuple[str, ...]:
        """Return the modalities that a sample has and keeps, in the model's order."""
        return kept_modalities(
            [name for name in self.modalities if name in self.records[key.sample].sources],
            seed=self.seed,
            epoch=key.epoch,
            index=key.sample,
            dropout=self.dropout,
            major=self.major,
            drop_major=self.drop_major,
        )

    def __getitem__(self, key: Key) -> Item:
        record, modalities = self.records[key.sample], self.kept(key)
        read = [name for name in modalities if name not in self.cached and name not in key.held]
        samples, left_out = {}, {}
        with collect_doubts() as doubts, one_sample([(self.modalities[name], record.sources[name]) for name in read]):
            for number, name in enumerate(self.modalities):
                if name not in read:
                    continue
                try:
                    with _noted(key.sample, number):
                        samples[name] = modality_calls.prepare(self.modalities[name], record.sources[name])
                except CremaError as error:
                    error.args = (f"{_name(record, 'Sample')}: {error}",)  # type, traceback and cause stay
                    if not (self.apart and isinstance(error, MediaError)):
                        return Item(record, modalities, {}, problem=Carried(error))
                    left_out[name] = Carried(error)
        modalities = tuple(name for name in modalities if name not in left_out)
        return Item(record, modalities, samples, left_out=tuple(left_out.items()), doubts=tuple(doubts))


@dataclass(frozen=True)
class TrainBatch:
    """Samples of one minibatch, on the CPU."""

    records: tuple[Record, ...]  # B samples
    present: dict[str, Tensor]  # for every modality in the batch `(R,)` int64, ascending, the samples that have it
    # the prepared ones of these modalities and samples; the features of the others are known
    modalities: dict[str, ModalityBatch]
    # samples left out because a source of theirs cannot be read, each with the reason
    unreadable: tuple[tuple[Record, Carried], ...] = ()
    left_out: tuple[tuple[Record, str, Carried], ...] = ()  # modalities that are left out of a sample for that reason
    doubts: tuple[tuple[Record, Doubt], ...] = ()  # what looks wrong about sources that were read

    @property
    def ids(self) -> tuple[str, ...]:
        """Names of the samples, for messages."""
        return tuple(record.id for record in self.records)

    def __len__(self) -> int:
        return len(self.records)


def _name(record: Record, noun: str) -> str:
    """Return "Sample '17' (line 3)"; a sample that was not read from a data file has no line."""
    return f"{noun} '{record.id}'{f' (line {record.line})' if record.line else ''}"


def reason_of(record: Record, carried: Carried) -> str:
    """Return why a source of a sample cannot be read, without the sample: others may have the same source."""
    return str(carried.error).removeprefix(f"{_name(record, 'Sample')}: ")


def collate(
    items: Sequence[Item], *, modalities: Mapping[str, Modality], pass_over: bool = False
) -> TrainBatch | Carried:
    """Make a batch, or return why there is none: the first of its B items that could not be read, else the modality.

    With `pass_over` items with an unreadable source are named in the batch instead.
    """
    unreadable = []
    for item in items:
        if item.problem and not (pass_over and isinstance(item.problem.error, MediaError)):
            return item.problem
        if item.problem:
            unreadable.append((item.record, item.problem))
    items = [item for item in items if not item.problem]
    rows = {name: [row for row, item in enumerate(items) if name in item.modalities] for name in modalities}
    present = {name: torch.tensor(own, dtype=torch.int64) for name, own in rows.items() if own}
    batches = {}
    for name in present:
        own = torch.tensor([row for row, item in enumerate(items) if name in item.samples], dtype=torch.int64)
        given = [items[row] for row in own.tolist()]
        if not given:
            continue
        labels = tuple(f"{_name(item.record, 'sample')}, {name_source(item.record.sources[name])}" for item in given)
        try:
            batch = modality_calls.collate(modalities[name], [item.samples[name] for item in given], labels)
        except CremaError as error:
            return Carried(error)
        batches[name] = ModalityBatch(batch, own, labels)
    left_out = tuple((item.record, *own) for item in items for own in item.left_out)
    doubts = tuple((item.record, own) for item in items for own in item.doubts)
    return TrainBatch(tuple(item.record for item in items), present, batches, tuple(unreadable), left_out, doubts)
