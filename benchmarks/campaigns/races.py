"""Two processes and one folder: is the second refused, or are both safe?

Each race is run several times, the two processes let go at once or, by the seed, up to half a second apart. An outcome
is right when the folder is whole afterwards and belongs to one of them, or was safely used by both; who is refused must
be told by an error of ours.

    python -m benchmarks.campaigns.races [--times 5 --seed 0 --only fit+fit --folder DIR]

The processes are forked from one that has imported torch, so this needs a POSIX system.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import psutil

from crema_core.api.model import CremaModel
from crema_core.cli.main import main as crema
from crema_core.common.progress import StatusLine
from crema_core.common.tables import table
from crema_core.data.media import read_arrays
from crema_core.errors import CremaError, OptionsError
from crema_core.evaluation.run import evaluate
from crema_core.features.cache.folder import check
from crema_core.saving.bundle import init_from
from crema_core.train.checkpoints import pointed, read_checkpoint
from crema_core.train.contrastive import pretrain
from crema_core.train.fit import fit
from crema_core.train.metrics import read_metrics
from crema_core.train.run import LAST
from tests.support.backbones import save_random_blip2
from tests.support.experts import save_glpn
from tests.support.official_datasets import write_clip
from tests.train.file_modalities import random_model, trained_modalities, write_data

SETTINGS: dict[str, Any] = {"epochs": 12, "batch_size": 2, "log_every": 1, "checkpoint_every": 1}
WAIT_S = 300.0
_SERVER = multiprocessing.get_context("forkserver")

# What a process does, and what became of it: "done", "refused", or what else it raised.
Part = Callable[[CremaModel, Path, Path], None]


def train(model: CremaModel, place: Path, out: Path) -> None:
    """Begin a run."""
    _quiet_fit(model, place, out=out / "run")


def resume(model: CremaModel, place: Path, out: Path) -> None:
    """Continue the run that another process begins at this moment, once it has saved something."""
    _wait_until(lambda: (out / "run" / LAST).exists())
    _quiet_fit(model, place, out=out / "run", resume=True)


def train_anywhere(model: CremaModel, place: Path, out: Path) -> None:
    """Begin a run in a folder of the program's choice."""
    os.chdir(out)
    _quiet_fit(model, place)


def train_encoder(model: CremaModel, place: Path, out: Path) -> None:
    """Pretrain an encoder."""
    more: dict[str, Any] = {"epochs": 12, "batch_size": 2, "status": StatusLine(enabled=False)}
    pretrain(model, place / "pairs" / "data.jsonl", modality="gait", against="points", out=out / "run", **more)


def keep_features(model: CremaModel, place: Path, out: Path) -> None:
    """Encode into a folder."""
    evaluate(model, place / "train" / "data.jsonl", cache=out / "features", batch_size=2)


def save_model(model: CremaModel, place: Path, out: Path) -> None:
    """Save a model again and again."""
    for _ in range(10):
        model.save_pretrained(out / "model")


def save_adapter(model: CremaModel, place: Path, out: Path) -> None:
    """Save a modality again and again."""
    for _ in range(20):
        model.save_adapter("other", out / "adapter")


def extract(model: CremaModel, place: Path, out: Path) -> None:
    """Estimate the depth of clips."""
    words = ["--depth-model", str(place / "glpn"), "--num-frames", "2", "--out", str(out / "maps")]
    if crema(["extract", "depth", *map(str, sorted((place / "videos").iterdir())), *words]) != 0:
        raise OptionsError("It was refused. One extraction at a time. See what it said.")


def write_answers(model: CremaModel, place: Path, out: Path) -> None:
    """Evaluate into a file."""
    evaluate(model, place / "train" / "data.jsonl", out=out / "a.jsonl", batch_size=1)


def go_on_answering(model: CremaModel, place: Path, out: Path) -> None:
    """Continue the evaluation that another process begins at this moment."""
    _wait_until(lambda: (out / "a.jsonl").exists())
    evaluate(model, place / "train" / "data.jsonl", out=out / "a.jsonl", batch_size=1, resume=True)


def whole_run(place: Path, out: Path) -> str:
    """Return what is wrong with a run."""
    return _wrong_run(out / "run")


def whole_runs(place: Path, out: Path) -> str:
    """Return what is wrong with the runs of two processes."""
    runs = list((out / "runs").iterdir())
    return "a shared folder" if len(runs) != 2 else next(filter(None, map(_wrong_run, runs)), "")


def whole_features(place: Path, out: Path) -> str:
    """Return what is wrong with a cache."""
    damages = check(out / "features")[1]
    return damages[0].text if damages else ""


def whole_model(place: Path, out: Path) -> str:
    """Return what is wrong with a saved model."""
    init_from(random_model(place / "t5", num=2), out / "model")
    return _leftovers(out)


def whole_adapter(place: Path, out: Path) -> str:
    """Return what is wrong with a saved adapter."""
    random_model(place / "t5", num=2).load_adapter(out / "adapter")
    return _leftovers(out)


def whole_answers(place: Path, out: Path) -> str:
    """Return what is wrong with a file of answers."""
    lines = (out / "a.jsonl").read_text(encoding="utf-8").splitlines()
    ids = sorted(json.loads(line)["id"] for line in lines)
    asked = (place / "train" / "data.jsonl").read_text(encoding="utf-8").splitlines()
    return "" if ids == sorted(json.loads(line)["id"] for line in asked) else f"{len(ids)} answers of {len(asked)}"


def whole_maps(place: Path, out: Path) -> str:
    """Return what is wrong with estimated depth."""
    found = sorted(path.name for path in (out / "maps").rglob("*.npz"))
    for path in (out / "maps").rglob("*.npz"):
        read_arrays(path)
    hidden = [path.name for path in (out / "maps").rglob(".*tmp*")]
    wanted = len(list((place / "videos").iterdir()))
    return f"{len(hidden)} leftovers" if hidden else "" if len(found) == wanted else f"{len(found)} of {wanted} maps"


# by name: the two processes, what the folder must be, and the pairs of outcomes that are right
ALONE = [("done", "refused")]
RACES: dict[str, tuple[Part, Part, Callable[[Path, Path], str], Sequence[tuple[str, str]]]] = {
    "fit+fit": (train, train, whole_run, ALONE),
    "fit+resume": (train, resume, whole_run, ALONE),
    "fit+fit, no out": (train_anywhere, train_anywhere, whole_runs, [("done", "done")]),
    "pretrain+pretrain": (train_encoder, train_encoder, whole_run, ALONE),
    "encode+encode": (keep_features, keep_features, whole_features, [("done", "done")]),
    "save+save": (save_model, save_model, whole_model, [("done", "done"), *ALONE]),
    "adapter+adapter": (save_adapter, save_adapter, whole_adapter, [("done", "done"), *ALONE]),
    "extract+extract": (extract, extract, whole_maps, [("done", "done"), *ALONE]),
    "eval+eval": (write_answers, write_answers, whole_answers, ALONE),
    "eval+eval resumed": (write_answers, go_on_answering, whole_answers, ALONE),
}
LAUNCH = "fit of two processes, launcher killed"


def race(name: str, place: Path, out: Path, *, delay_s: float = 0.0) -> str:
    """Run a race once and return what was wrong; an empty text when nothing was.

    Args:
        name: of the race.
        place: with data and backbone, see `prepare`.
        out: a new folder.
        delay_s: head start of the first process.
    """
    first, second, whole, right = RACES[name]
    out.mkdir(parents=True)
    barrier, started = _SERVER.Barrier(2), []
    for part, wait_s in ((first, 0.0), (second, delay_s)):
        receiver, sender = _SERVER.Pipe(duplex=False)
        process = _SERVER.Process(target=_take_part, args=(sender, barrier, wait_s, part, place, out))
        process.start()
        sender.close()
        started.append((process, receiver))
    outcomes = []
    for process, receiver in started:
        try:
            outcomes.append(receiver.recv() if receiver.poll(WAIT_S) else "hangs")
        except EOFError:
            outcomes.append("died")
        process.kill()
        process.join()
    pair = (min(outcomes), max(outcomes))
    if pair not in right:
        return " and ".join(outcomes)
    try:
        return whole(place, out)
    except (CremaError, OSError, ValueError) as error:
        return f"the folder: {type(error).__name__}"


def kill_launcher(place: Path, out: Path) -> str:
    """Kill the launcher of a training in two processes, and return what was wrong with what followed."""
    run = out / "run"
    command = [sys.executable, "-m", "crema_core.cli.main"]
    words = ["fit", str(place / "clips" / "train.jsonl"), "--modalities", "video,depth", "--out", str(run)]
    words += ["--backbone", str(place / "tiny"), "--processes", "2", "--set", "epochs=500", "--set", "batch_size=4"]
    words += ["--set", "checkpoint_every=1", "--set", "video.num_frames=2", "--set", "depth.num_frames=1"]
    with subprocess.Popen([*command, *words], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as launcher:
        try:
            _wait_until(lambda: (run / LAST).exists())
            workers = psutil.Process(launcher.pid).children(recursive=True)
        finally:
            launcher.send_signal(signal.SIGKILL)
    _, alive = psutil.wait_procs(workers, timeout=5)
    for worker in alive:
        worker.kill()
    return f"{len(alive)} orphans after 5 s" if alive else _wrong_run(run)


def prepare(place: Path, *, launch: bool) -> None:
    """Write data and backbones into a new folder; with `launch` those of the command line, which take longer."""
    save_random_blip2(place / "t5")
    write_data(place / "train", 6, modalities="mo")
    write_data(place / "pairs", 8, modalities="gp")
    save_glpn(place / "glpn")
    for number in range(4):
        write_clip(place / "videos" / f"{number}.mp4", num_frames=6)
    if launch:
        from crema_world import make_world
        from crema_world.backbone import new_backbone, save_backbone

        save_backbone(*new_backbone(seed=0), place / "tiny")
        made = make_world(place / "clips", num_clips=6, seed=0, split="train").data_file
        if made.name != "train.jsonl":
            (made.parent / "train.jsonl").write_text(made.read_text(encoding="utf-8"), encoding="utf-8")


def campaign(folder: Path, *, times: int, seed: int, only: str | None = None) -> dict[str, Counter[str]]:
    """Return what was wrong in how many of the races of each kind; under the empty text, nothing."""
    _SERVER.set_forkserver_preload(["crema_core.train.fit", "crema_core.api.build"])
    draw, chosen = random.Random(seed), [only] if only else [*RACES, LAUNCH]
    prepare(folder / "given", launch=LAUNCH in chosen)
    found = {}
    for name in chosen:
        counts: Counter[str] = Counter()
        for number in range(times):
            out = folder / f"{len(found)}-{number}"
            if name == LAUNCH:
                try:
                    counts[kill_launcher(folder / "given", out)] += 1
                except TimeoutError as error:  # such as on a machine with more work than cores
                    counts[str(error)] += 1
            else:
                delay_s = draw.choice((0.0, 0.0, draw.uniform(0, 0.5)))
                counts[race(name, folder / "given", out, delay_s=delay_s)] += 1
        found[name] = counts
        print(f"{name}: {counts.total()} run, {counts.total() - counts['']} wrong", file=sys.stderr, flush=True)
    return found


def main(argv: Sequence[str] | None = None) -> int:
    """Run the campaign, print its table and a line of JSON, and return 3 when anything was wrong."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--times", type=int, default=5)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", choices=[*RACES, LAUNCH])
    parser.add_argument("--folder", type=Path, help="new; default: a temporary one")
    arguments = parser.parse_args(argv)
    with tempfile.TemporaryDirectory(prefix="races-") as temporary:
        folder = arguments.folder or Path(temporary)
        found = campaign(folder, times=arguments.times, seed=arguments.seed, only=arguments.only)
    rows = [["race", "run", "wrong", "what"]]
    for name, counts in found.items():
        wrong = {what: number for what, number in counts.most_common() if what}
        what = "; ".join(f"{number} x {text}" for text, number in wrong.items())
        rows.append([name, str(counts.total()), str(sum(wrong.values())), what])
    print(table(rows))
    print(json.dumps({"seed": arguments.seed, "races": {name: dict(counts) for name, counts in found.items()}}))
    return 3 if any(counts.total() > counts[""] for counts in found.values()) else 0


def _take_part(sender: Connection, barrier: Any, wait_s: float, part: Part, place: Path, out: Path) -> None:
    import torch

    torch.set_num_threads(1)
    try:
        trains = part is train_encoder
        modalities = trained_modalities() if trains else None
        model = random_model(place / "t5", modalities=modalities, **({} if trains else {"num": 2}))
        barrier.wait(WAIT_S)
        time.sleep(wait_s)
        part(model, place, out)
        outcome = "done"
    except CremaError:
        outcome = "refused"
    except Exception as error:  # noqa: BLE001 - whatever it is, it is the outcome
        outcome = type(error).__name__
    sender.send(outcome)


def _quiet_fit(model: CremaModel, place: Path, **options: Any) -> None:
    fit(model, place / "train" / "data.jsonl", status=StatusLine(enabled=False), **options, **SETTINGS)


def _wait_until(condition: Callable[[], bool]) -> None:
    until = time.monotonic() + WAIT_S
    while not condition():
        if time.monotonic() > until:
            raise TimeoutError("what a race waits for did not come")
        time.sleep(0.005)


def _wrong_run(run: Path) -> str:
    """Return what is wrong with a run directory: updates out of order, or a checkpoint that is not whole."""
    steps = [line["step"] for line in read_metrics(run / "metrics.jsonl") if line["kind"] in ("step", "epoch")]
    kinds = [line["step"] for line in read_metrics(run / "metrics.jsonl") if line["kind"] == "step"]
    if steps != sorted(steps) or len(kinds) != len(set(kinds)):
        return "metrics of two runs"
    last = pointed(run, LAST)
    if last is None:
        return "no checkpoint"
    read_checkpoint(last)
    return ""


def _leftovers(out: Path) -> str:
    found = [path.name for path in out.iterdir() if path.name.startswith(".")]
    return f"{len(found)} leftovers" if found else ""


if __name__ == "__main__":
    sys.exit(main())
