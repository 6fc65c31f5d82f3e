"""Processes killed at every point of writing: is what they wrote whole, old or new, and does the next write clean up?

A process is killed by SIGKILL before the n-th thing it does to files: opening one for writing, flushing, renaming,
exchanging, deleting, making a folder. Afterwards what it wrote must be readable, as it was before or as it should be,
and the same work, done again, must succeed and leave nothing hidden. `fit` is killed by `tests/train/test_killed.py`.

    python -m benchmarks.campaigns.kills [--points 100 --seed 0 --only save_pretrained --folder DIR]

Processes are forked from one that has imported torch, so this needs a POSIX system. Prints what is wrong, a table and
one line of JSON.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import signal
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch

import crema_core
from crema_core.cli.main import main as crema
from crema_core.common.atomic import write_text
from crema_core.common.tables import table
from crema_core.features.cache.folder import check
from crema_world.generate import make_world

EVENTS = ("os.rename", "os.remove", "os.rmdir", "os.mkdir", "os.chmod", "os.truncate", "shutil.rmtree")
"""Audit events of changes to files; opening for writing is one more."""
MOST = 10_000
NUM_QUESTIONS = 4


class Work(NamedTuple):
    """Something that writes.

    Attributes:
        do: the work, in a folder.
        state: what is there, as plain data; raises where it is not whole.
        prepare: what is there before.
    """

    do: Callable[[Path], object]
    state: Callable[[Path], Any]
    prepare: Callable[[Path], object] = lambda folder: None


def count_changes(last: int) -> Callable[[], int]:
    """Kill this process before its `last`-th change to files; returns how many there were so far."""
    done = 0

    def changed() -> None:
        nonlocal done
        done += 1
        if done == last:
            os.kill(os.getpid(), signal.SIGKILL)

    def seen(event: str, arguments: tuple[Any, ...]) -> None:
        writes = event == "open" and isinstance(arguments[2], int) and arguments[2] & (os.O_WRONLY | os.O_RDWR)
        if event in EVENTS or writes:
            changed()

    sys.addaudithook(seen)
    flush = os.fsync

    def counted(handle: int) -> None:
        changed()
        flush(handle)

    os.fsync = counted
    return lambda: done


def run(work: Callable[[], object], *, last: int = MOST) -> tuple[int, int]:
    """Do something in a process of its own, in silence.

    Returns:
        its exit code, and how many changes it made unless it was killed.
    """
    ours, theirs = os.pipe()
    silent, errors = os.open(os.devnull, os.O_WRONLY), os.dup(2)
    child = os.fork()
    if child == 0:
        code = 99
        try:
            made = count_changes(last)
            for stream in (1, 2):
                os.dup2(silent, stream)
            work()
            os.write(theirs, str(made()).encode())
            code = 0
        except BaseException:  # noqa: BLE001  # the exit code tells it
            import traceback

            os.write(errors, traceback.format_exc().encode())
        finally:
            os._exit(code)
    os.close(theirs)
    os.close(silent)
    os.close(errors)
    _, status = os.waitpid(child, 0)
    text = os.read(ours, 100)
    os.close(ours)
    return os.waitstatus_to_exitcode(status), int(text or 0)


def _changed_model(given: Path) -> crema_core.CremaModel:
    model = crema_core.load(given / "model")
    with torch.no_grad():
        for parameter in model.adapter_state_dict().values():
            parameter.add_(1.0)
    return model


def _weights(place: Path) -> float:
    state = crema_core.load(place).adapter_state_dict()
    return round(float(sum(value.double().sum() for value in state.values())), 3)


def _adapter(given: Path, place: Path) -> float:
    model = crema_core.load(given / "model")
    model.load_adapter(place)
    return round(float(sum(value.double().sum() for value in model.adapter_state_dict().values())), 3)


def _lines(place: Path) -> list[str] | None:
    return sorted(place.read_text(encoding="utf-8").splitlines()) if place.exists() else None


def _evaluate(given: Path, folder: Path) -> object:
    model = crema_core.load(given / "model")
    more: dict[str, Any] = {"batch_size": 1, "max_new_tokens": 2, "announce": False}
    return crema_core.evaluate(model, given / "few.jsonl", out=folder / "out.jsonl", resume=True, **more)


def _answers(folder: Path) -> bool:
    """Whether all are answered; a last line that was cut off is what a resumed evaluation writes again."""
    if not (folder / "out.jsonl").exists():
        return False
    *whole, _ = (folder / "out.jsonl").read_text(encoding="utf-8").split("\n")
    return len([json.loads(line) for line in whole]) == NUM_QUESTIONS


def _encode(given: Path, folder: Path) -> object:
    words = ["encode", str(given / "few.jsonl"), "--modalities", "video", "--cache", str(folder / "features")]
    if crema(words) != 0:
        raise RuntimeError("encode failed")
    return None


def _cache(folder: Path) -> list[str]:
    """Return what is damaged; a folder that is empty, or has hidden files only, is taken as a new one."""
    visible = [own for own in (folder / "features").glob("*") if not own.name.startswith(".")]
    return [damage.text for damage in check(folder / "features")[1]] if visible else []


def _tree(place: Path) -> list[str] | None:
    return sorted(str(path.relative_to(place)) for path in place.rglob("*")) if place.exists() else None


def works(given: Path) -> dict[str, Work]:
    """Return what is killed, by name; `given` holds a model, data and an older save."""

    def copy(name: str) -> Callable[[Path], object]:
        return lambda folder: shutil.copytree(given / name, folder / name)

    def scaffold(folder: Path) -> object:
        return crema(["plugins", "new", "radar", "--output", str(folder)])

    return {
        "write_text": Work(
            lambda folder: write_text(folder / "a", "new"),
            lambda folder: (folder / "a").read_text(),
            lambda folder: (folder / "a").write_text("old"),
        ),
        "save_pretrained": Work(
            lambda folder: _changed_model(given).save_pretrained(folder / "model"),
            lambda folder: _weights(folder / "model"),
            copy("model"),
        ),
        "save_adapter": Work(
            lambda folder: _changed_model(given).save_adapter("video", folder / "adapter"),
            lambda folder: _adapter(given, folder / "adapter"),
            copy("adapter"),
        ),
        "eval": Work(lambda folder: _evaluate(given, folder), _answers),
        "encode": Work(lambda folder: _encode(given, folder), _cache),
        "world make": Work(
            lambda folder: make_world(folder / "world", num_clips=1, seed=0, split="train"),
            lambda folder: _tree(folder / "world"),
        ),
        "plugins new": Work(scaffold, lambda folder: _tree(folder / "crema-radar")),
    }


def attempt(work: Work, folder: Path, *, last: int, states: Sequence[Any]) -> str:
    """Return what is wrong after a kill before the `last`-th change; empty: nothing."""
    work.prepare(folder)
    code, _ = run(lambda: work.do(folder), last=last)
    if code != -signal.SIGKILL:
        return f"it was not killed (exit code {code})"
    try:
        state = work.state(folder)
    except Exception as error:  # noqa: BLE001  # it is what is looked for
        return f"not readable: {type(error).__name__}: {error}"
    if state not in states:
        return f"neither old nor new: {state!r:.80}"
    code, _ = run(lambda: work.do(folder))
    if code:
        return "the next one failed"
    if work.state(folder) != states[-1]:
        return "the next one gave something else"
    hidden = [path.name for path in folder.rglob(".*") if ".tmp-" in path.name or ".old-" in path.name]
    return f"left: {hidden[0]}" if hidden else ""


def main(arguments: Sequence[str] | None = None) -> int:
    """Kill and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--points", type=int, default=100, help="kills, spread over the works by how much they change")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", nargs="*", default=None, help="works")
    parser.add_argument("--folder", type=Path, help="where everything is kept")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    rows, counts = [["work", "changes", "killed", "right"]], Counter[str]()
    with tempfile.TemporaryDirectory() as own:
        folder = options.folder or Path(own)
        given = folder / "given"
        make_world(given / "world", num_clips=1, seed=0, split="train")
        text = (given / "world" / "data.jsonl").read_text(encoding="utf-8").splitlines()
        lines = [json.loads(line) for line in text[:NUM_QUESTIONS]]
        moved = [{k: f"world/{v}" if "/" in str(v) else v for k, v in line.items() if k != "id"} for line in lines]
        few = [{"id": str(number), **line} for number, line in enumerate(moved)]
        write_text(given / "few.jsonl", "".join(json.dumps(line) + "\n" for line in few))
        model = crema_core.build(["video"], backbone="crema-tiny")
        model.save_pretrained(given / "model")
        model.save_adapter("video", given / "adapter")
        chosen = {name: own for name, own in works(given).items() if options.only is None or name in options.only}
        states: dict[str, tuple[Any, Any]] = {}
        changes: dict[str, int] = {}
        for name, work in chosen.items():
            place = folder / name.replace(" ", "-") / "whole"
            place.mkdir(parents=True)
            work.prepare(place)
            old = work.state(place)
            code, changes[name] = run(lambda work=work, place=place: work.do(place))  # type: ignore[misc]
            if code:
                raise SystemExit(f"{name} does not work without kills")
            states[name] = (old, work.state(place))
        shares = {name: max(options.points * own // sum(changes.values()), 5) for name, own in changes.items()}
        for name, work in chosen.items():
            generator, right = random.Random(f"{options.seed} {name}"), 0
            points = sorted(generator.sample(range(1, changes[name] + 1), min(shares[name], changes[name])))
            for point in points:
                place = folder / name.replace(" ", "-") / str(point)
                place.mkdir()
                wrong = attempt(work, place, last=point, states=states[name])
                right += not wrong
                if wrong:
                    print(f"{name}, change {point} of {changes[name]}: {wrong}", flush=True)
            counts["killed"] += len(points)
            counts["right"] += right
            rows.append([name, str(changes[name]), str(len(points)), str(right)])
    print(table(rows))
    print(json.dumps({"kills": dict(counts)}))
    return 0 if counts["killed"] == counts["right"] else 1


if __name__ == "__main__":
    raise SystemExit(main())
