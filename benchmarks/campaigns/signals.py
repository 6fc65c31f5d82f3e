"""Ctrl-C and SIGTERM, once and twice, at named moments of every long verb: does it stop in time, and go on afterwards?

Right is: an exit code of 130 or 143, a last line that begins with `crema: ` and no traceback, within `MOST_S` seconds;
no process and no temporary file is left, checkpoints are whole; the same work, done again or resumed, ends with what a
run without interruption ends with. A signal twice may stop before anything is saved.

    python -m benchmarks.campaigns.signals [--only fit --times 1 --seed 0 --folder DIR]

Processes are forked from one that has imported torch, so this needs a POSIX system. Prints what is wrong, a table and
one line of JSON.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import random
import shutil
import signal
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import psutil
import torch

import crema_core
from crema_core.cli.main import main as crema
from crema_core.common.atomic import write_text
from crema_core.common.tables import table
from crema_core.features.cache.folder import check
from crema_core.train.checkpoints import pointed, read_checkpoint
from crema_core.train.run import LAST
from crema_world.generate import make_world
from tests.support.experts import save_glpn

MOST_S = 10.0
"""Seconds after the last signal; SLURM and Kubernetes wait for 30 before they kill."""
HANGS_S = 90.0
PLANS: dict[str, tuple[signal.Signals, ...]] = {
    "TERM": (signal.SIGTERM,),
    "INT": (signal.SIGINT,),
    "TERM TERM": (signal.SIGTERM, signal.SIGTERM),
    "INT INT": (signal.SIGINT, signal.SIGINT),
}
BETWEEN_S = 0.05
CODES = {signal.SIGTERM: 143, signal.SIGINT: 130}
NUM_QUESTIONS = 6


class Moment(NamedTuple):
    """When a process is told to stop.

    Attributes:
        place: function, as `module:name` or `module:Class.name`.
        call: which call of it.
    """

    place: str
    call: int = 1


class Verb(NamedTuple):
    """A command line.

    Attributes:
        words: for a folder to work in.
        again: words that go on afterwards.
        state: what a finished one leaves.
        moments: by name.
    """

    words: Callable[[Path], list[str]]
    again: Callable[[Path], list[str]]
    state: Callable[[Path], Any]
    moments: dict[str, Moment]


class Ended(NamedTuple):
    """How a process ended."""

    code: int | None
    error: str
    seconds: float
    reached: bool
    left: int  # processes


ATOMIC = "crema_core.common.atomic:_flush_path"
TRAINING = {
    "building": Moment("crema_core.api.build:build"),
    "filling the cache": Moment("crema_core.features.encode:fill_cache"),
    "before the first update": Moment("crema_core.train.trainer:Trainer._train_epoch"),
    "an update": Moment("crema_core.train.metrics:MetricLogger.update", 2),
    "an epoch's last update": Moment("crema_core.train.metrics:MetricLogger.update", 3),
    "a checkpoint": Moment("crema_core.train.checkpoints:write_checkpoint", 2),
    "a file of it": Moment(ATOMIC, 9),
    "an evaluation": Moment("crema_core.evaluation.run:_answer_batch", 2),
    "the model": Moment("crema_core.saving.bundle:save"),
    "the report": Moment("crema_core.report.run_report:write_run_report"),
}


def tell_at(moment: Moment, signals: Sequence[signal.Signals], told: Callable[[], object]) -> None:
    """Send this process signals when a function is called."""
    module_name, _, path = moment.place.partition(":")
    owner: Any = importlib.import_module(module_name)
    *parents, name = path.split(".")
    for parent in parents:
        owner = getattr(owner, parent)
    given, calls = getattr(owner, name), 0

    def send() -> None:
        for number, one in enumerate(signals):
            if number:
                time.sleep(BETWEEN_S)
            os.kill(os.getpid(), one)

    def call(*arguments: Any, **named: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == moment.call:
            told()
            threading.Thread(target=send, daemon=True).start()
            time.sleep(BETWEEN_S / 2)  # the first one comes inside
        return given(*arguments, **named)

    setattr(owner, name, call)
    for module in [own for key, own in sys.modules.items() if key.startswith("crema") and own is not owner]:
        if not parents and getattr(module, name, None) is given:
            setattr(module, name, call)


def run(words: Sequence[str], folder: Path, moment: Moment | None = None, signals: Sequence[Any] = ()) -> Ended:
    """Run a command line in a process of its own, in a session of its own."""
    errors, told = folder / ".errors.txt", folder / ".told"
    told.unlink(missing_ok=True)
    child = os.fork()
    if child == 0:
        try:
            os.setsid()
            signal.signal(signal.SIGINT, signal.default_int_handler)
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            handle = os.open(errors, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
            for stream in (1, 2):
                os.dup2(handle, stream)
            sys.stdout, sys.stderr = (os.fdopen(stream, "w", closefd=False) for stream in (1, 2))  # not a test run's
            os.chdir(folder)
            if moment is not None:
                tell_at(moment, signals, lambda: told.write_text(str(time.time())))
            code = crema(list(words))
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)
        except BaseException:  # noqa: BLE001  # as Python itself ends a program
            import traceback

            traceback.print_exc()
            sys.stderr.flush()
        os._exit(1)
    started = time.monotonic()
    code: int | None = None
    while time.monotonic() - started < HANGS_S:
        number, status = os.waitpid(child, os.WNOHANG)
        if number:
            code = os.waitstatus_to_exitcode(status)
            break
        time.sleep(0.01)
    else:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    reached = told.exists()
    seconds = time.time() - float(told.read_text()) if reached else 0.0
    time.sleep(0.2 if reached else 0.0)
    left = [own for own in psutil.process_iter() if _session(own.pid) == child]
    if left:  # workers look every half second
        time.sleep(2)
        left = [own for own in left if own.is_running() and own.status() != psutil.STATUS_ZOMBIE]
    for own in left:
        own.kill()
    text = errors.read_text(encoding="utf-8", errors="replace")
    errors.unlink()
    told.unlink(missing_ok=True)
    return Ended(code, text, seconds, reached, len(left))


def _session(pid: int) -> int:
    try:
        return os.getsid(pid)
    except OSError:
        return -1


def _last_adapters(folder: Path) -> bytes:
    last = pointed(folder / "run", LAST)
    assert last is not None
    return (last / "adapters.safetensors").read_bytes()


def _answers(folder: Path) -> list[str]:
    return sorted((folder / "out.jsonl").read_text(encoding="utf-8").splitlines())


def _cache(folder: Path) -> list[str]:
    found = check(folder / "features")
    return [str(len(found[0])) if hasattr(found[0], "__len__") else str(found[0]), *(one.text for one in found[1])]


def _tree(folder: Path) -> list[tuple[str, int]]:
    return sorted((str(own.relative_to(folder)), own.stat().st_size) for own in folder.rglob("*") if own.is_file())


def verbs(given: Path) -> dict[str, Verb]:
    """Return what is interrupted, by name; `given` holds a model and data."""
    data = str(given / "few.jsonl")

    def fit(folder: Path) -> list[str]:
        words = ["fit", data, "--eval-data", data, "--modalities", "video", "--out", str(folder / "run")]
        for one in ("epochs=2", "batch_size=2", "log_every=1", "checkpoint_every=1", "video.num_frames=2"):
            words += ["--set", one]
        return [*words, "--set", "eval_batch_size=2"]

    def fit_again(folder: Path) -> list[str]:
        begun = (folder / "run" / "fit.json").exists()
        return ["resume", str(folder / "run")] if begun else fit(folder)

    def with_workers(words: list[str]) -> list[str]:
        return [*words, "--set", "num_workers=2", "--set", "cache=none"]

    def workers(folder: Path) -> list[str]:
        return with_workers(fit(folder))

    def workers_again(folder: Path) -> list[str]:
        words = fit_again(folder)
        return words if words[0] == "resume" else with_workers(words)

    def encode(folder: Path) -> list[str]:
        return ["encode", data, "--modalities", "video", "--cache", str(folder / "features"), "--batch-size", "2"]

    def evaluate(folder: Path) -> list[str]:
        words = ["eval", str(given / "model"), data, "--out", str(folder / "out.jsonl"), "--batch-size", "1"]
        return [*words, "--resume"] if (folder / "out.jsonl").exists() else words

    def extract(folder: Path) -> list[str]:
        clips = sorted(str(own) for own in (given / "world" / "clips").glob("*.mp4"))
        words = ["--out", str(folder / "out"), "--depth-model", str(given / "glpn"), "--num-frames", "3"]
        return ["extract", "depth", *clips, *words]

    def world(folder: Path) -> list[str]:
        return ["world", "make", str(folder / "world"), "--clips", "2", "--seed", "0", "--split", "train"]

    prediction = "crema_core.evaluation.predictions:PredictionFile.add"
    return {
        "fit": Verb(fit, fit_again, _last_adapters, TRAINING),
        "fit, 2 workers": Verb(
            workers, workers_again, _last_adapters, {key: TRAINING[key] for key in ("an update", "an evaluation")}
        ),
        "encode": Verb(
            encode,
            encode,
            _cache,
            {
                "building": Moment("crema_core.api.encode_job:build"),
                "a batch": Moment("crema_core.features.feature_cache:FeatureCache.put"),
                "writing": Moment("crema_core.features.cache.store:write_shard"),
            },
        ),
        "eval": Verb(
            evaluate,
            evaluate,
            _answers,
            {
                "loading": Moment("crema_core.api.load:load"),
                "a batch": Moment("crema_core.evaluation.run:_answer_batch", 3),
                "writing": Moment(prediction, 4),
            },
        ),
        "extract": Verb(
            extract,
            extract,
            lambda folder: _tree(folder / "out"),
            {"a clip": Moment("crema_geometry.extract.work:extract_one", 2), "writing": Moment(ATOMIC, 2)},
        ),
        "world make": Verb(
            world,
            world,
            lambda folder: _tree(folder / "world"),
            {
                "a clip": Moment("crema_world.generate:write_clip", 2),
                "lines": Moment("crema_world.generate:_write_lines"),
            },
        ),
    }


def attempt(verb: Verb, folder: Path, moment: Moment, signals: Sequence[signal.Signals], expected: Any) -> str:
    """Return what is wrong with how a verb ends that is told to stop; empty: nothing; "never": it did not come by."""
    ended = run(verb.words(folder), folder, moment, signals)
    if not ended.reached:
        return "never"
    wrong = _wrong_end(ended, signals)
    hidden = [own.name for own in folder.rglob(".*") if ".tmp-" in own.name or ".old-" in own.name]
    if not wrong and hidden:
        wrong = f"left: {hidden[0]}"
    if not wrong and list(folder.rglob("owner.lock")):
        wrong = "a lock is left"
    last = pointed(folder / "run", LAST) if (folder / "run").exists() else None
    if last is not None:
        read_checkpoint(last)
    again = run(verb.again(folder), folder)
    if again.code:
        return f"{wrong or 'ended well'}, but going on failed: {again.error[-300:]}"
    same = verb.state(folder) == expected
    return wrong if same else f"{wrong or 'ended well'}, but going on gave something else"


def _wrong_end(ended: Ended, signals: Sequence[signal.Signals]) -> str:
    lines = ended.error.strip().splitlines() or [""]
    if ended.code is None:
        return "hangs"
    if ended.left:
        return f"{ended.left} processes left"
    if "Traceback" in ended.error or "Exception ignored" in ended.error:
        return f"traceback: {lines[-1][:100]}"
    if ended.code != CODES[signals[0]]:
        return f"exit code {ended.code}: {lines[-1][:100]}"
    if not lines[-1].startswith("crema: "):
        return f"no message: {lines[-1][:80]}"
    if ended.seconds > MOST_S:
        return f"took {ended.seconds:.0f} s"
    return ""


def prepare(given: Path) -> None:
    """Write a model and data into a new folder."""
    make_world(given / "world", num_clips=2, seed=0, split="train")
    text = (given / "world" / "data.jsonl").read_text(encoding="utf-8").splitlines()
    lines = [json.loads(line) for line in text[:NUM_QUESTIONS]]
    moved = [{key: f"world/{own}" if "/" in str(own) else own for key, own in line.items()} for line in lines]
    write_text(given / "few.jsonl", "".join(json.dumps(line) + "\n" for line in moved))
    crema_core.build(["video"], backbone="crema-tiny").save_pretrained(given / "model")
    torch.manual_seed(0)
    save_glpn(given / "glpn")


def campaign(
    folder: Path, *, only: Sequence[str] | None, plans: Sequence[str], moments: Sequence[str] | None, seed: int
) -> tuple[list[list[str]], Counter[str]]:
    """Interrupt, print what is wrong, and return a table and counts."""
    rows, counts = [["verb", "told to stop", "right", "after at most (s)"]], Counter[str]()
    given = folder / "given"
    prepare(given)
    for name, verb in verbs(given).items():
        if only and name not in only:
            continue
        whole = folder / name.replace(" ", "-").replace(",", "") / "whole"
        whole.mkdir(parents=True)
        ended = run(verb.words(whole), whole)
        if ended.code:
            raise SystemExit(f"{name} does not work without signals: {ended.error}")
        expected, done, right = verb.state(whole), 0, 0
        cases = [(moment, plan) for moment in verb.moments for plan in plans if not moments or moment in moments]
        random.Random(f"{seed} {name}").shuffle(cases)
        started = time.monotonic()
        for number, (moment, plan) in enumerate(cases):
            place = whole.parent / str(number)
            place.mkdir()
            wrong = attempt(verb, place, verb.moments[moment], PLANS[plan], expected)
            shutil.rmtree(place)
            done += 1
            right += not wrong
            counts["wrong" if wrong else "right"] += 1
            if wrong:
                print(f"{name}, {moment}, {plan}: {wrong}", flush=True)
        rows.append([name, str(done), str(right), f"{(time.monotonic() - started) / max(done, 1):.1f}"])
    return rows, counts


def main(arguments: Sequence[str] | None = None) -> int:
    """Interrupt and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--only", nargs="*", default=None, help="verbs")
    parser.add_argument("--moments", nargs="*", default=None)
    parser.add_argument("--plans", nargs="*", default=list(PLANS), choices=list(PLANS))
    parser.add_argument("--seed", type=int, default=0, help="of the order")
    parser.add_argument("--folder", type=Path, help="where everything is kept; new")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory(prefix="signals-") as own:
        folder = options.folder or Path(own)
        rows, counts = campaign(
            folder, only=options.only, plans=options.plans, moments=options.moments, seed=options.seed
        )
    print(table(rows))
    print(json.dumps({"signals": dict(counts)}))
    return 0 if not counts["wrong"] else 1


if __name__ == "__main__":
    raise SystemExit(main())
