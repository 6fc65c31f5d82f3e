"""The processes of one launch: how many there are, which one this is, and what they tell each other.

All processes run the same program on the same data and settings; each works on its part of every global batch. What
they exchange on the way (flags, answers, random states) travels between CPUs, also where gradients travel between
GPUs: it is small, and a process may then wait for another one longer than a GPU's collectives allow.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar, cast

import torch
import torch.distributed as dist
from torch import Tensor

from crema_core.errors import CremaError, LostProcessError

Entry = TypeVar("Entry")


@dataclass(frozen=True)
class Processes:
    """The processes that work together; every method is called by all of them, in the same order.

    Example:
        >>> [Processes(rank=rank, count=2).shard(["a", "b", "c"]) for rank in (0, 1)]
        [['a'], ['b', 'c']]
    """

    rank: int = 0  # which one this is; 0 is the main process, which prints and writes
    count: int = 1  # how many there are
    control: dist.ProcessGroup | None = None  # torch's group for messages between CPUs; None: the default group

    @property
    def is_main(self) -> bool:
        """Whether this process prints and writes files."""
        return self.rank == 0

    def shard(self, entries: Sequence[Entry]) -> list[Entry]:
        """Return this process's part of `entries`; parts follow each other and differ by at most one in length."""
        size = len(entries)
        return list(entries[size * self.rank // self.count : size * (self.rank + 1) // self.count])

    def sum(self, values: Sequence[float]) -> list[float]:
        """Return the sums over all processes, entry by entry."""
        if self.count == 1:
            return [float(value) for value in values]
        total = torch.tensor(values, dtype=torch.float64)
        with _told_when_lost():
            dist.all_reduce(total, group=self.control)
        found: list[float] = total.tolist()
        return found

    def any(self, flag: bool) -> bool:
        """Return whether `flag` is set in at least one process."""
        return self.sum([float(flag)])[0] > 0

    def gather(self, value: Entry) -> list[Entry]:
        """Return every process's value, by rank."""
        if self.count == 1:
            return [value]
        found: list[Entry | None] = [None] * self.count
        with _told_when_lost():
            dist.all_gather_object(found, value, group=self.control)
        return cast("list[Entry]", found)

    def from_main(self, make: Callable[[], Entry]) -> Entry:
        """Return what `make` returns in the main process; the others do not call it and wait.

        Raises:
            CremaError: in all processes, when `make` raises one.
        """
        value: Entry | None = None
        problem: CremaError | None = None
        if self.is_main:
            try:
                value = make()
            except CremaError as error:
                problem = error
        value, problem = self.gather((value, problem))[0]
        if problem is not None:
            raise problem
        return cast(Entry, value)

    def wait(self) -> None:
        """Wait until all processes are here."""
        self.sum([0.0])

    def add_up(self, buffer: Tensor) -> None:
        """Replace `buffer`, on the device gradients live on, by its sum over all processes."""
        if self.count > 1:
            with _told_when_lost():
                dist.all_reduce(buffer)

    def copy_from_main(self, buffer: Tensor) -> None:
        """Replace `buffer`, on the device gradients live on, by the main process's."""
        if self.count > 1:
            with _told_when_lost():
                dist.broadcast(buffer, src=0)


ALONE = Processes()
"""One process that shares its work with no other."""


@contextmanager
def _told_when_lost() -> Iterator[None]:
    """Say so when another process ended, which torch reports as one of many errors of sockets."""
    try:
        yield
    except RuntimeError as error:
        raise LostProcessError(
            f"Another process of this launch ended while this one waited for it ({str(error).splitlines()[0]}). All "
            "processes must live until the end. Look at the other processes' messages; crema resume continues from the "
            "last checkpoint."
        ) from error
