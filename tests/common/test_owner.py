"""One process at a time writes to a place; what a crash left is taken over, on this machine and on others."""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from crema_core.common import owner
from crema_core.common.owner import Owner, _started, owned_file, owned_folder, require_owned, this_process
from crema_core.errors import CremaError, TrainingError
from tests.support.launch import start


def own(folder: Path, say: Callable[[str], None] = print) -> Any:
    return owned_folder(folder, work="a test", advice="give another out=", say=say, error=TrainingError)


@contextmanager
def held_by_another(lock: Any) -> Iterator[None]:
    """Hold a lock in another thread, which is nobody's caller here."""
    with ThreadPoolExecutor(1) as other, ExitStack() as stack:
        other.submit(stack.enter_context, lock).result()
        yield
        other.submit(stack.close).result()


def leave_behind(folder: Path, *, host: str, pid: int = 4242, members: Any = ()) -> None:
    """Write what a process of another machine leaves when it is killed."""
    folder.mkdir(exist_ok=True)
    marker = f"filelock/2\npid={pid}\nhost={host}\nmode=lease\ntoken=abc\nduration={owner.LEASE_S!r}\n"
    (folder / "owner.lock").write_text(marker)
    left = Owner("abc", "anna", f"{host} space", host, pid, "2026-01-02 03:04:05", "a training", tuple(members))
    (folder / "owner.json").write_text(json.dumps(asdict(left)))


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(owner, "LEASE_S", 0.3)
    monkeypatch.setattr(owner, "BEAT_S", 0.05)
    monkeypatch.setattr(owner, "POLL_S", 0.02)


def test_the_second_one_is_told_who_writes_and_what_to_type(tmp_path: Path) -> None:
    place = tmp_path / "run"
    with held_by_another(own(place)):
        with pytest.raises(TrainingError) as caught, own(place):
            raise AssertionError
        text = str(caught.value)
    found = this_process()
    assert text.startswith(f"'{place}' belongs to another process: a test of ")
    assert f" on {found.host}, process {found.pid}, since 20" in text
    assert text.endswith("Wait for its end, or give another out=. Nothing was changed.")
    assert not place.exists()


def test_whoever_owns_a_folder_owns_it_further_in(tmp_path: Path) -> None:
    with own(tmp_path), own(tmp_path):
        assert sorted(path.name for path in tmp_path.iterdir()) == ["owner.json", "owner.lock"]
    assert list(tmp_path.iterdir()) == []


def test_a_file_has_an_owner_and_a_device_has_none(tmp_path: Path) -> None:
    options: dict[str, Any] = {"work": "a test", "advice": "give another out=", "say": print}
    path = tmp_path / "answers.jsonl"
    with held_by_another(owned_file(path, **options)):
        assert sorted(own.name for own in tmp_path.iterdir()) == ["answers.jsonl.lock", "answers.jsonl.owner"]
        with pytest.raises(CremaError, match="belongs to another process"), owned_file(path, **options):
            raise AssertionError
    with owned_file(Path(os.devnull), **options):
        assert not Path(f"{os.devnull}.lock").exists()


def test_what_another_machine_left_is_taken_over_when_no_sign_of_life_comes(quick: None, tmp_path: Path) -> None:
    leave_behind(tmp_path, host="node7")
    told: list[str] = []
    with own(tmp_path, told.append):
        assert json.loads((tmp_path / "owner.json").read_text())["pid"] == os.getpid()
    left = "a training of anna on node7, process 4242, since 2026-01-02 03:04:05"
    assert told == [
        f"'{tmp_path}' belongs to {left}. Waiting up to 0.3 s for a sign of life from that machine.",
        f"'{tmp_path}' was left by {left}, which is gone. This process takes over.",
    ]


def test_a_sign_of_life_from_another_machine_is_a_refusal(quick: None, tmp_path: Path) -> None:
    leave_behind(tmp_path, host="node7")
    end = threading.Event()

    def beat() -> None:
        number = 0
        while not end.wait(0.05):
            number += 1
            os.utime(tmp_path / "owner.lock", (number, number))  # by whatever clock

    with ThreadPoolExecutor(1) as other:
        other.submit(beat)
        try:
            with (
                pytest.raises(TrainingError, match=r"end it \(kill 4242 on node7\), or give another out="),
                own(tmp_path),
            ):
                raise AssertionError
        finally:
            end.set()


def test_processes_left_of_a_launch_keep_the_folder(quick: None, tmp_path: Path) -> None:
    leave_behind(tmp_path, host="node7", members=[this_process()._replace(pid=os.getppid(), started=-1.0)])
    with own(tmp_path, lambda _: None):  # another process has the number now
        pass
    import psutil

    parent = psutil.Process(os.getppid())
    leave_behind(tmp_path, host="node7", members=[this_process()._replace(pid=parent.pid, started=_started(parent))])
    with (
        pytest.raises(TrainingError, match=f"End them with: kill {parent.pid}, or give"),
        own(tmp_path, lambda _: None),
    ):
        raise AssertionError


def test_who_was_taken_for_dead_writes_no_more(quick: None, tmp_path: Path) -> None:
    with own(tmp_path):
        require_owned(tmp_path)
        (tmp_path / "owner.lock").unlink()
        leave_behind(tmp_path, host="node7")
        with pytest.raises(TrainingError, match="has another owner now"):
            require_owned_for(tmp_path, seconds=10)
    assert "node7" in (tmp_path / "owner.json").read_text()


def require_owned_for(place: Path, *, seconds: float) -> None:
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        require_owned(place)
        time.sleep(0.01)


def own_and_die(folder: Path) -> None:
    with own(folder):
        os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.slow
def test_what_a_killed_process_left_is_taken_over_at_once(tmp_path: Path) -> None:
    assert start(own_and_die, tmp_path / "run", count=1) == [("died", -signal.SIGKILL)]
    assert sorted(path.name for path in (tmp_path / "run").iterdir()) == ["owner.json", "owner.lock"]
    told: list[str] = []
    started = time.monotonic()
    with own(tmp_path / "run", told.append):
        assert time.monotonic() - started < owner.LEASE_S / 2
    assert len(told) == 1
    assert told[0].endswith(", which is gone. This process takes over.")


HOURS_S = 5 * 3600.0


@pytest.mark.parametrize("set_s", [-HOURS_S, HOURS_S])
def test_a_clock_that_is_set_takes_nothing_from_its_owner(
    set_s: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import psutil

    parent = psutil.Process(os.getppid())
    left = this_process()._replace(pid=parent.pid, started=_started(parent))
    with held_by_another(own(tmp_path / "run")), monkeypatch.context() as patch:
        _set_clock(patch, set_s)
        with pytest.raises(TrainingError, match="belongs to another process") as caught, own(tmp_path / "run"):
            raise AssertionError
        assert "-" not in str(caught.value).partition("last sign of life ")[2].partition(" ago")[0]
    _set_clock(monkeypatch, set_s)
    assert owner._is_alive(left)
    assert owner._is_alive(this_process())
    assert not owner._is_alive(left._replace(started=left.started - 5))
    assert not owner._is_alive(left._replace(boot="another"))


def _set_clock(patch: pytest.MonkeyPatch, by_s: float) -> None:
    """Set the clock as a person or a time server does: what counts from 1970 moves, the start of the machine too."""
    now = time.time
    patch.setattr(time, "time", lambda: now() + by_s)
    patch.setattr(time, "time_ns", lambda: int((now() + by_s) * 1e9))
    if sys.platform == "linux":
        import psutil._pslinux as system

        boot = system.boot_time
        patch.setattr(system, "boot_time", lambda: boot() + by_s)
