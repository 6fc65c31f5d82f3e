"""Being told to stop: SIGTERM is a KeyboardInterrupt with an exit code of its own, and twice is once."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from crema_core.common import stopping
from crema_core.common.stopping import Terminated, cause, exit_code, handled, stop_for, stoppable


@contextmanager
def _defaults() -> Iterator[None]:
    """As in a program that has just begun."""
    before = {number: signal.getsignal(number) for number in stopping.SIGNALS}
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    try:
        yield
    finally:
        for number, own in before.items():
            signal.signal(number, own)


@pytest.mark.parametrize(("number", "code", "said"), [("SIGINT", 130, "interrupted"), ("SIGTERM", 143, "terminated")])
def test_a_signal_is_raised_once_and_not_again_while_cleaning_up(number: str, code: int, said: str) -> None:
    cleaned = False
    with _defaults():
        with pytest.raises(KeyboardInterrupt) as stop, stoppable():  # noqa: PT012
            try:
                os.kill(os.getpid(), getattr(signal, number))
            finally:
                os.kill(os.getpid(), getattr(signal, number))
                cleaned = True
        assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    assert cleaned
    assert (exit_code(stop.value), cause(stop.value)) == (code, said)


def test_one_more_after_a_while_ends_the_program_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    class LeftError(BaseException):
        """Instead of the end of the program."""

    def leave(code: int) -> None:
        raise LeftError(code)

    monkeypatch.setattr(stopping.os, "_exit", leave)
    monkeypatch.setattr(stopping, "PATIENCE_S", 0.0)
    with _defaults(), pytest.raises(LeftError, match="143"), stoppable():  # noqa: PT012
        try:
            os.kill(os.getpid(), signal.SIGTERM)
        finally:
            os.kill(os.getpid(), signal.SIGINT)


def test_what_is_raised_while_an_object_is_deleted_is_raised_again() -> None:
    class Slow:
        def __del__(self) -> None:
            os.kill(os.getpid(), signal.SIGTERM)
            sum(range(10))

    hook = sys.unraisablehook
    with _defaults(), pytest.raises(Terminated), stoppable():  # noqa: PT012
        slow = Slow()
        del slow
        time.sleep(10)  # it ends when the signal comes again
    assert sys.unraisablehook is hook


def test_a_handler_of_somebody_elses_and_an_ignored_signal_are_left_alone() -> None:
    seen: list[int] = []
    with _defaults():
        signal.signal(signal.SIGTERM, lambda number, frame: seen.append(number))
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # as nohup does
        with stoppable():
            os.kill(os.getpid(), signal.SIGTERM)
            os.kill(os.getpid(), signal.SIGINT)
    assert seen == [signal.SIGTERM]


def test_a_forked_process_ends_as_it_would_without_the_handler() -> None:
    with _defaults(), handled(lambda number, frame: None):
        child = os.fork()
        if child == 0:
            os.kill(os.getpid(), signal.SIGTERM)
            os._exit(0)
        _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == -signal.SIGTERM


def test_sigterm_is_a_keyboard_interrupt() -> None:
    assert isinstance(stop_for(signal.SIGTERM), Terminated)
    assert type(stop_for(signal.SIGINT)) is KeyboardInterrupt
