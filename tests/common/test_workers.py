"""Processes that share work: they end with a block that raises, having cleaned up; Ctrl-C is their parent's."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import time
from concurrent.futures import Future
from functools import partial
from pathlib import Path

import pytest

from crema_core.common import workers
from crema_core.common.stopping import TERMINATED
from crema_core.common.workers import worker_processes


def note(folder: Path) -> None:
    (folder / f"begun-{os.getpid()}").touch()


def work(folder: Path, number: int, seconds: float) -> int:
    mine = folder / f"working-{number}"
    try:
        mine.touch()  # it may be told to stop at any line, as soon as the file is seen
        time.sleep(seconds)
    finally:
        mine.unlink(missing_ok=True)
    return number


def wait_for(folder: Path, pattern: str) -> Path:
    until = time.monotonic() + 60
    while not (found := sorted(folder.glob(pattern))):
        assert time.monotonic() < until, f"{pattern} did not come"
        time.sleep(0.02)
    return found[0]


@pytest.mark.slow
def test_all_work_is_done_and_a_block_that_raises_ends_what_was_begun(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("crema_core.common.workers.PATIENCE_S", 60.0)  # not how fast this machine cleans up
    with worker_processes(1, begin=partial(note, tmp_path)) as submit:
        futures = [submit(work, tmp_path, number, 0.0) for number in range(5)]
    assert [own.result() for own in futures] == [0, 1, 2, 3, 4]
    assert len(list(tmp_path.glob("begun-*"))) == 1
    left: list[Future[int]] = []
    begun = 0.0

    def be_stopped() -> None:
        nonlocal begun
        with worker_processes(1) as submit:
            left.extend(submit(work, tmp_path, number, 60.0) for number in range(3))
            wait_for(tmp_path, "working-*")
            begun = time.monotonic()
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        be_stopped()
    assert time.monotonic() - begun < 55.0
    assert list(tmp_path.glob("working-*")) == []  # the one that was begun has cleaned up
    assert left[-1].cancelled()
    assert multiprocessing.active_children() == []


@pytest.mark.slow
def test_a_process_that_the_pool_collects_is_waited_for_until_its_end_is_known(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    collect = os.waitpid

    def collect_slowly(pid: int, options: int) -> tuple[int, int]:
        """The pool's thread collects first, and is held up before it can say so, as on a busy machine."""
        main = threading.current_thread() is threading.main_thread()
        if main:
            time.sleep(0.1)
        ended = collect(pid, options)
        if ended[0] and not main:
            time.sleep(0.5)
        return ended

    monkeypatch.setattr(os, "waitpid", collect_slowly)

    def be_stopped() -> None:
        with worker_processes(1) as submit:
            submit(work, tmp_path, 0, 60.0)
            wait_for(tmp_path, "working-*")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        be_stopped()
    assert multiprocessing.active_children() == []


class Stopped(threading.Event):
    """Tells its process to stop just before or after it is set or cleared."""

    def __init__(self, when: str) -> None:
        super().__init__()
        self.when = when

    def tell(self, when: str) -> None:
        if when == self.when:
            os.kill(os.getpid(), signal.SIGTERM)

    def set(self) -> None:
        self.tell("before set")
        super().set()
        self.tell("after set")

    def clear(self) -> None:
        self.tell("before clear")
        super().clear()
        self.tell("after clear")


@pytest.mark.parametrize("work", [int, partial(int, "no number")], ids=["done", "raises"])
@pytest.mark.parametrize("when", ["before set", "after set", "before clear", "after clear"])
def test_a_process_that_is_told_to_stop_between_two_works_takes_no_more(when: str, work: partial[int]) -> None:
    child = os.fork()
    if not child:
        signal.signal(signal.SIGTERM, workers._stop)
        workers._works = Stopped(when)
        try:
            workers._work(work, (), {})
        finally:
            os._exit(1)  # the pool would give it the next work, and it no longer hears of SIGTERM
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == TERMINATED


@pytest.mark.slow
def test_ctrl_c_does_not_reach_them(tmp_path: Path) -> None:
    with worker_processes(1, begin=partial(note, tmp_path)) as submit:
        future = submit(work, tmp_path, 0, 0.3)
        os.kill(multiprocessing.active_children()[0].pid or 0, signal.SIGINT)  # while it is imported
        wait_for(tmp_path, "working-*")
        os.kill(multiprocessing.active_children()[0].pid or 0, signal.SIGINT)
    assert future.result() == 0
