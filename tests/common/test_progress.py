import io

import pytest

from crema_core.common.progress import StatusLine, describe_duration


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_log_gets_a_line_after_two_seconds_and_then_every_interval() -> None:
    stream, clock = io.StringIO(), Clock()
    status = StatusLine(stream, interval_s=30, clock=clock)
    for second in range(70):
        clock.now = float(second)
        status.show(f"at {second}")
    assert stream.getvalue() == "at 2\nat 32\nat 62\n"


def test_a_terminal_line_is_overwritten_and_a_note_stays() -> None:
    stream, clock = Terminal(), Clock()
    status = StatusLine(stream, clock=clock)
    status.show("long line")
    clock.now = 1.0
    status.show("short")
    status.note("kept")
    assert stream.getvalue() == "\rlong line\rshort    \r     \rkept\n"


def test_a_silent_status_line_writes_nothing() -> None:
    stream = Terminal()
    status = StatusLine(stream, enabled=False)
    status.show("a")
    status.note("b")
    status.done()
    assert stream.getvalue() == ""


@pytest.mark.parametrize(("seconds", "text"), [(43.7, "43s"), (725, "12m 05s"), (11_225, "3h 07m")])
def test_durations_are_short(seconds: float, text: str) -> None:
    assert describe_duration(seconds) == text
