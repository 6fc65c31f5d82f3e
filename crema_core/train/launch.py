"""Starting several processes of one program on this machine, by accelerate's launcher."""

from __future__ import annotations

import logging
import os
import signal
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

import torch
from accelerate.commands.launch import launch_command, launch_command_parser
from accelerate.utils import patch_environment
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError, ProcessFailure

from crema_core.errors import OptionsError, TrainingError

HANDLED = ("SIGHUP", "SIGQUIT")


class LaunchedProcessError(TrainingError):
    """A process of a launch failed and the others were ended."""

    def __init__(self, message: str, *, num_silent: int) -> None:
        self.num_silent = num_silent  # failed processes that were killed by a signal, so that they could not say why
        super().__init__(message)


def run_processes(module: str, words: Sequence[str], count: int, *, environment: Mapping[str, str]) -> None:
    """Run `python -m module words` in several processes and wait for all of them.

    Args:
        module: name of the program.
        words: its arguments.
        count: number of processes; each gets a GPU of its own where there are GPUs.
        environment: more variables for them.

    Raises:
        OptionsError: when there are GPUs, but not enough.
        LaunchedProcessError: when one failed.
    """
    refuse_too_many(count, num_gpus=torch.cuda.device_count())
    threads = int(os.environ.get("OMP_NUM_THREADS", max(1, (os.cpu_count() or 1) // count)))
    arguments = [
        *("--multi_gpu", "--num_processes", str(count), "--num_machines", "1", "--main_process_port", "0"),
        *("--mixed_precision", "no", "--dynamo_backend", "no", "--num_cpu_threads_per_process", str(threads)),
        *("-m", module, *words),
    ]
    options = launch_command_parser().parse_args(arguments)
    options.signals_to_handle = ",".join(HANDLED)  # read by torch's launcher; the others are the caller's
    variables = dict(environment)
    if not torch.accelerator.is_available():
        variables["ACCELERATE_USE_CPU"] = "true"
    try:
        with patch_environment(**variables), _quiet(), _handlers_restored():
            launch_command(options)
    except ChildFailedError as error:
        silent = [(rank, one) for rank, one in error.failures.items() if one.exitcode < 0]
        rank, failure = silent[0] if silent else error.get_first_failure()
        raise LaunchedProcessError(_describe(rank, failure, count), num_silent=len(silent)) from error


def refuse_too_many(count: int, *, num_gpus: int) -> None:
    """Raise an OptionsError when processes would have to share a GPU."""
    if 0 < num_gpus < count:
        raise OptionsError(
            f"{count} processes were asked for and this machine has {num_gpus} GPUs. Each process needs one of its "
            f"own. Use --processes {num_gpus}, or set CUDA_VISIBLE_DEVICES='' to work on CPU cores."
        )


def _describe(rank: int, failure: ProcessFailure, count: int) -> str:
    if failure.exitcode >= 0:
        return (
            f"Process {rank} of {count} ended with exit code {failure.exitcode}, so the others were ended too. What it "
            "wrote is above. Correct the cause; crema resume continues from the last checkpoint."
        )
    name = signal.Signals(-failure.exitcode).name
    return (
        f"Process {rank} of {count} was killed by {name}, so the others were ended too. SIGKILL often means that the "
        "machine ran out of memory. Lower batch_size or cache_limit_gb; crema resume continues from the last "
        "checkpoint."
    )


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep the launchers' own reports out of the output; what happened is said in one message."""
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        yield
    finally:
        logging.disable(before)


@contextmanager
def _handlers_restored() -> Iterator[None]:
    """Take back the signal handlers that torch's launcher leaves behind."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {name: signal.getsignal(getattr(signal, name)) for name in HANDLED}
    try:
        yield
    finally:
        for name, handler in before.items():
            signal.signal(getattr(signal, name), handler)
