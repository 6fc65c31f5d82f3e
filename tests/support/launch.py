"""Real processes for tests: forked from a server that has imported the heavy libraries once, so that each is quick."""

from __future__ import annotations

import multiprocessing
import os
import socket
import traceback
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any

_SERVER = multiprocessing.get_context("forkserver")
_SERVER.set_forkserver_preload(["crema_core.train.fit", "crema_core.api.build"])
TIMEOUT_S = 600


class ChildError(Exception):
    """What a process raised, as text."""


def together(function: Callable[..., Any], *arguments: Any, count: int = 2, **named: Any) -> list[Any]:
    """Call `function` in `count` processes of one launch and return what each returned.

    Args:
        function: importable by name.
        *arguments, **named: passed on; plain data.
        count: number of processes.

    Raises:
        ChildError: when one of them raised, with the first one's trace.
    """
    found = start(function, *arguments, count=count, **named)
    problems = [text for kind, text in found if kind == "error"]
    if problems:
        raise ChildError("\n".join(problems))
    return [value for _, value in found]


def start(function: Callable[..., Any], *arguments: Any, count: int = 2, **named: Any) -> list[tuple[str, Any]]:
    """Like `together`, but return ("value", ...), ("error", text) or ("died", exit code) of each process."""
    port = free_port()
    started = []
    for rank in range(count):
        receiver, sender = _SERVER.Pipe(duplex=False)
        process = _SERVER.Process(target=_run, args=(sender, rank, count, port, function, arguments, named))
        process.start()
        sender.close()
        started.append((process, receiver))
    outcomes: list[tuple[str, Any]] = []
    for process, receiver in started:
        try:
            outcome = receiver.recv() if receiver.poll(TIMEOUT_S) else ("error", f"no answer in {TIMEOUT_S} s")
        except EOFError:
            process.join(TIMEOUT_S)
            outcome = ("died", process.exitcode)
        outcomes.append(outcome)
    for process, _ in started:
        process.join(TIMEOUT_S)
        if process.is_alive():
            process.kill()
    return outcomes


def begin(function: Callable[..., Any], *arguments: Any) -> multiprocessing.process.BaseProcess:
    """Start `function` in a process of its own and return at once."""
    process = _SERVER.Process(target=function, args=arguments)
    process.start()
    return process


def free_port() -> int:
    """Return a port nobody listens on now."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


def _run(
    sender: Connection,
    rank: int,
    count: int,
    port: int,
    function: Callable[..., Any],
    arguments: tuple[Any, ...],
    named: dict[str, Any],
) -> None:
    import torch

    torch.set_num_threads(1)
    if count > 1:
        os.environ.update(
            RANK=str(rank),
            LOCAL_RANK=str(rank),
            WORLD_SIZE=str(count),
            LOCAL_WORLD_SIZE=str(count),
            MASTER_ADDR="127.0.0.1",
            MASTER_PORT=str(port),
        )
    try:
        sender.send(("value", function(*arguments, **named)))
    except BaseException as error:
        sender.send(("error", "".join(traceback.format_exception(error))))
        raise
