"""What the launcher of several processes is given, and that nothing of it stays behind."""

from __future__ import annotations

import argparse
import logging
import os
import signal
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from types import FrameType

import pytest
import torch
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError, ProcessFailure

from crema_core.errors import OptionsError
from crema_core.train import launch
from crema_core.train.launch import HANDLED, LaunchedProcessError, run_processes

Launched = list[tuple[argparse.Namespace, dict[str, str], int]]


def first(number: int, frame: FrameType | None) -> None:
    """A handler of the caller's."""


@pytest.fixture(autouse=True)
def own_handlers() -> Iterator[None]:
    """Handlers of the caller's, which must be back afterwards."""
    before = handlers()
    for name, own in zip(HANDLED, (first, signal.SIG_DFL), strict=True):
        signal.signal(getattr(signal, name), own)
    yield
    for name, handler in zip(HANDLED, before, strict=True):
        signal.signal(getattr(signal, name), handler)


@pytest.fixture
def launched(monkeypatch: pytest.MonkeyPatch) -> Launched:
    """What `accelerate launch` would have been called with: options, environment, level below which logs are off."""
    calls: Launched = []

    def launch_command(options: argparse.Namespace) -> None:
        calls.append((options, dict(os.environ), logging.root.manager.disable))
        if threading.current_thread() is threading.main_thread():
            for name in HANDLED:
                signal.signal(getattr(signal, name), signal.SIG_IGN)

    monkeypatch.setattr(launch, "launch_command", launch_command)
    monkeypatch.delenv("ACCELERATE_USE_CPU", raising=False)
    return calls


def handlers() -> list[Callable[[int, FrameType | None], object] | int | None]:
    return [signal.getsignal(getattr(signal, name)) for name in HANDLED]


@pytest.mark.parametrize("accelerator", [False, True])
def test_the_launcher_gets_module_words_number_and_threads(
    launched: Launched, monkeypatch: pytest.MonkeyPatch, accelerator: bool
) -> None:
    monkeypatch.setattr(torch.accelerator, "is_available", lambda: accelerator)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2 if accelerator else 0)
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    run_processes("a.program", ["--out", "here"], 2, environment={"OF_THE_RUN": "yes"})
    options, environment, disabled = launched[0]
    assert (options.training_script, options.training_script_args, options.module) == (
        "a.program", ["--out", "here"], True,
    )  # fmt: skip
    assert (options.num_processes, options.num_machines, options.num_cpu_threads_per_process) == (2, 1, 3)
    assert (options.multi_gpu, options.mixed_precision, options.dynamo_backend) == (True, "no", "no")
    assert (options.main_process_port, options.signals_to_handle) == (0, "SIGHUP,SIGQUIT")
    assert environment["OF_THE_RUN"] == "yes"
    assert environment.get("ACCELERATE_USE_CPU") == (None if accelerator else "true")
    assert disabled == logging.CRITICAL


def test_the_cores_are_divided_where_no_number_of_threads_is_given(
    launched: Launched, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: 6)
    for count in (2, 12):
        run_processes("a.program", [], count, environment={})
    assert [options.num_cpu_threads_per_process for options, _, _ in launched] == [3, 1]


def test_environment_logs_and_signals_are_as_before(launched: Launched) -> None:
    before, level = [first, signal.SIG_DFL], logging.root.manager.disable
    run_processes("a.program", [], 2, environment={"OF_THE_RUN": "yes"})
    assert len(launched) == 1
    assert handlers() == before
    assert logging.root.manager.disable == level
    assert not {"OF_THE_RUN", "ACCELERATE_USE_CPU"} & os.environ.keys()
    # Only the main thread may set handlers; from another one they are left alone.
    with ThreadPoolExecutor(1) as pool:
        pool.submit(run_processes, "a.program", [], 2, environment={}).result()
    assert len(launched) == 2
    assert handlers() == before


def test_too_few_gpus_are_refused_before_anything_starts(launched: Launched, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    with pytest.raises(OptionsError, match=r"^3 processes were asked for and this machine has 2 GPUs\. "):
        run_processes("a.program", [], 3, environment={})
    assert launched == []


@pytest.mark.parametrize(("codes", "silent", "expected"), [
    ({0: 3, 1: 4}, 0, "Process 0 of 2 ended with exit code 3, so the others were ended too. "),
    ({0: 3, 1: -9}, 1, "Process 1 of 2 was killed by SIGKILL, so the others were ended too. "),
    ({0: -15, 1: -9}, 2, "Process 0 of 2 was killed by SIGTERM, so the others were ended too. "),
])  # fmt: skip
def test_a_failure_is_told_by_the_process_that_could_not_say_why(
    monkeypatch: pytest.MonkeyPatch, codes: dict[int, int], silent: int, expected: str
) -> None:
    def failing(_: argparse.Namespace) -> None:
        failures = {}
        for rank, code in codes.items():
            failures[rank] = ProcessFailure(local_rank=rank, pid=rank + 1, exitcode=code, error_file="")
            failures[rank].timestamp = rank
        raise ChildFailedError("a.program", failures)

    monkeypatch.setattr(launch, "launch_command", failing)
    before, level = handlers(), logging.root.manager.disable
    with pytest.raises(LaunchedProcessError) as caught:
        run_processes("a.program", [], 2, environment={})
    assert str(caught.value).startswith(expected)
    assert caught.value.num_silent == silent
    assert (handlers(), logging.root.manager.disable) == (before, level)
