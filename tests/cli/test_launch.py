"""`--processes`: several real processes, one result, one message."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
import torch

import crema_core
from crema_core.cli.launch import FOLDER, enrol, enrolled, fail, launch, outcomes, without_processes
from crema_core.cli.main import main
from crema_core.errors import OptionsError
from crema_core.train.checkpoints import pointed
from crema_core.train.launch import LaunchedProcessError, refuse_too_many
from crema_core.train.run import LAST
from tests.support.numeric import assert_same_steps
from tests.support.world import MODALITIES, QUICK

RATE = 1e-3
STILL = ["--set", f"lr={RATE}", "--set", "video.mmqa.lora_dropout=0", "--set", "depth.mmqa.lora_dropout=0"]


def words(clips: Path, tiny: Path, out: Path, *more: str) -> list[str]:
    return ["fit", str(clips), "--modalities", MODALITIES, "--backbone", str(tiny), "--out", str(out), *QUICK, *more]


@pytest.mark.slow
def test_fit_in_two_processes_is_fit_in_one(
    clips: Path, tiny_folder: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert main(words(clips, tiny_folder, tmp_path / "one", *STILL, "--json")) == 0
    alone = json.loads(capfd.readouterr().out)
    parts = ["--set", "shard_language_model=true", "--processes", "2"]
    assert main(words(clips, tiny_folder, tmp_path / "two", *STILL, "--json", *parts)) == 0
    shared = json.loads(capfd.readouterr().out)
    assert shared["num_steps"] == alone["num_steps"] == 4
    one, two = (crema_core.load(tmp_path / name / "model").adapter_state_dict() for name in ("one", "two"))
    assert_same_steps(one, two, rate=RATE)


@pytest.mark.slow
def test_a_failing_process_ends_all_with_its_message(
    clips: Path, tiny_folder: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    lines = clips.read_text().splitlines()
    damaged = clips.with_name("damaged.jsonl")
    broken = json.loads(lines[-1])
    broken["depth"] = "clips/none.png"
    (clips.parent / "clips" / "none.png").write_bytes(b"not a picture")
    damaged.write_text("\n".join([*lines[:-1], json.dumps(broken)]) + "\n")
    before = signal.getsignal(signal.SIGTERM), dict(os.environ), torch.get_num_threads()
    assert main(words(damaged, tiny_folder, tmp_path / "run", "--processes", "2")) == 1
    # What the launcher changes for its processes is as before in the process that started it.
    assert (signal.getsignal(signal.SIGTERM), dict(os.environ), torch.get_num_threads()) == before
    message = capfd.readouterr().err.splitlines()[-1]
    assert message.startswith(f"crema: Sample '{broken['id']}' (line {len(lines)}): ")
    assert "none.png" in message


@pytest.mark.slow
@pytest.mark.parametrize(
    ("number", "code", "cause"), [(signal.SIGINT, 130, "interrupted"), (signal.SIGTERM, 143, "terminated")]
)
def test_a_killed_process_ends_all_and_a_signal_saves(
    number: signal.Signals, code: int, cause: str, clips: Path, tiny_folder: Path, tmp_path: Path
) -> None:
    more = ["--set", "epochs=200", "--set", "checkpoint_every=1", "--set", "log_every=1", "--processes", "2"]
    command = [sys.executable, "-m", "crema_core.cli.main"]
    first = _start([*command, *words(clips, tiny_folder, tmp_path / "run", *more)])
    _wait_for(tmp_path / "run" / "last", first)
    _workers(first)[1].kill()
    assert first.communicate(timeout=300)[1].splitlines()[-1] == (
        "crema: Process 1 of 2 was killed by SIGKILL, so the others were ended too. SIGKILL often means that the "
        "machine ran out of memory. Lower batch_size or cache_limit_gb; crema resume continues from the last "
        "checkpoint."
    )
    assert first.returncode == 1
    before = (tmp_path / "run" / "last").read_text()
    second = _start([*command, "resume", str(tmp_path / "run"), "--processes", "2"])
    _wait_for(tmp_path / "run" / "last", second, other_than=before)
    second.send_signal(number)
    said = second.communicate(timeout=300)[1].splitlines()
    assert second.returncode == code
    assert said[-1] == f"crema: {cause}; everything is saved. Continue with: crema resume {tmp_path / 'run'}"
    told = f"{cause.capitalize()}: finishing this update, then saving. Press Ctrl-C again to stop without saving."
    assert said.count(told) == 1


@pytest.mark.slow
def test_a_live_run_is_not_continued_and_its_processes_end_with_the_launcher(
    clips: Path, tiny_folder: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    more = ["--set", "epochs=200", "--set", "checkpoint_every=1", "--processes", "2"]
    command = [sys.executable, "-m", "crema_core.cli.main"]
    first = _start([*command, *words(clips, tiny_folder, run, *more)])
    _wait_for(run / "last", first)
    workers, config = _workers(first), (run / "fit.json").read_text()
    for verb in (["resume", str(run)], words(clips, tiny_folder, run)):
        refused = subprocess.run([*command, *verb], capture_output=True, text=True, check=False)
        assert refused.returncode == 1
        assert f"crema: '{run}' belongs to another process: a training of " in refused.stderr
        assert f"process {workers[0].pid}, since " in refused.stderr
        another = "out=" if verb[0] == "resume" else "--out"
        assert refused.stderr.endswith(
            f"end it (kill {workers[0].pid}), or give another {another}. Nothing was changed.\n"
        )
    assert (run / "fit.json").read_text() == config
    first.kill()
    assert psutil.wait_procs(workers, timeout=60)[1] == []
    second = _start([*command, "resume", str(run)])
    before = (run / "last").read_text()
    _wait_for(run / "last", second, other_than=before)
    second.send_signal(signal.SIGINT)
    said = second.communicate(timeout=300)[1]
    assert f"'{run}' was left by a training of " in said
    assert "which is gone. This process takes over." in said


@pytest.mark.slow
def test_whichever_process_is_killed_all_end_and_the_run_goes_on_to_equal_bits(
    clips: Path, tiny_folder: Path, tmp_path: Path
) -> None:
    more = ["--set", "epochs=4", "--set", "checkpoint_every=1", "--set", "log_every=1", "--set", "cache=none"]
    more += ["--set", "num_workers=1", "--processes", "2"]
    command = [sys.executable, "-m", "crema_core.cli.main"]
    whole = _start([*command, *words(clips, tiny_folder, tmp_path / "whole", *more)])
    assert whole.wait(600) == 0, whole.communicate()[1]
    run = tmp_path / "run"
    launched, seen = _start([*command, *words(clips, tiny_folder, run, *more)]), ""
    for victim in ("rank 0", "rank 1", "worker"):
        _wait_for(run / "last", launched, other_than=seen)
        ranks = _workers(launched)
        everybody = psutil.Process(launched.pid).children(recursive=True)
        if victim == "worker":
            _worker_of(ranks[1]).kill()
        else:
            ranks[int(victim[-1])].kill()
        said = launched.communicate(timeout=300)[1]
        assert launched.returncode == 1, said
        expected = (
            "A worker process ended" if victim == "worker" else f"Process {victim[-1]} of 2 was killed by SIGKILL"
        )
        assert said.splitlines()[-1].startswith(f"crema: {expected}"), said
        assert "Traceback" not in said, said
        left = [own for own in psutil.wait_procs(everybody, timeout=60)[1] if own.status() != psutil.STATUS_ZOMBIE]
        assert left == []
        seen = (run / "last").read_text()
        launched = _start([*command, "resume", str(run), "--processes", "2"])
    assert launched.wait(600) == 0, launched.communicate()[1]
    ends = [pointed(place, LAST) or place for place in (tmp_path / "whole", run)]
    assert ends[0].name == ends[1].name
    assert len({(end / "adapters.safetensors").read_bytes() for end in ends}) == 1


def _worker_of(process: psutil.Process) -> psutil.Process:
    """Return a process that reads media for a process, as soon as there is one."""
    until = time.monotonic() + 300
    while not (found := process.children()):
        assert time.monotonic() < until
        time.sleep(0.01)
    return found[0]


def _start(command: list[str]) -> subprocess.Popen[str]:
    return subprocess.Popen(command, stderr=subprocess.PIPE, text=True)


def _wait_for(file: Path, process: subprocess.Popen[str], *, other_than: str = "") -> None:
    until = time.monotonic() + 300
    while not file.exists() or file.read_text() in ("", other_than):
        assert process.poll() is None, process.communicate()[1]
        assert time.monotonic() < until
        time.sleep(0.05)


def _workers(launcher: subprocess.Popen[str]) -> list[psutil.Process]:
    """Return the processes of a launch by rank."""
    found = [child for child in psutil.Process(launcher.pid).children() if "RANK" in child.environ()]
    return sorted(found, key=lambda child: int(child.environ()["RANK"]))


@pytest.mark.slow
def test_eval_in_two_processes_answers_each_question_once(
    trained: Path, clips: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    out = {name: tmp_path / f"{name}.jsonl" for name in ("one", "two")}
    assert main(["eval", str(trained), str(clips), "--json", "--out", str(out["one"])]) == 0
    alone = json.loads(capfd.readouterr().out)
    assert main(["eval", str(trained), str(clips), "--json", "--out", str(out["two"]), "--processes=2"]) == 0
    shared = json.loads(capfd.readouterr().out)
    assert {**alone, "duration_s": 0} == {**shared, "duration_s": 0}
    assert out["one"].read_text() == out["two"].read_text()


def test_the_cause_is_told_before_its_consequences(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(FOLDER, str(tmp_path))
    monkeypatch.setenv("RANK", "0")
    enrol()
    assert fail("Another process ended.", 1, is_consequence=True) == 1
    monkeypatch.setenv("RANK", "1")
    assert fail("The loss became nan.", 1) == 1
    assert [one.message for one in outcomes(tmp_path)] == ["The loss became nan.", "Another process ended."]
    assert enrolled(tmp_path) == [os.getpid()]


def test_without_a_launcher_a_message_goes_to_standard_error(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv(FOLDER, raising=False)
    assert fail("No.", 3) == 3
    assert capsys.readouterr().err == "crema: No.\n"


def test_a_process_that_could_not_say_why_is_described(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def run(*_: object, **__: object) -> None:
        raise LaunchedProcessError("Process 0 of 2 ended with exit code 7.", num_silent=0)

    monkeypatch.setattr("crema_core.train.launch.run_processes", run)
    assert launch(["fit", "x"], 2) == 1
    assert capsys.readouterr().err == "crema: Process 0 of 2 ended with exit code 7.\n"


def test_a_process_that_was_ended_because_another_was_killed_is_not_the_cause(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def run(*_: object, environment: dict[str, str], **__: object) -> None:
        with monkeypatch.context() as patch:
            patch.setenv(FOLDER, environment[FOLDER])
            fail("terminated", 143)
        raise LaunchedProcessError("Process 1 of 2 was killed by SIGKILL.", num_silent=1)

    monkeypatch.setattr("crema_core.train.launch.run_processes", run)
    assert launch(["fit", "x"], 2) == 1
    assert capsys.readouterr().err == "crema: Process 1 of 2 was killed by SIGKILL.\n"


def test_the_number_of_processes_is_not_passed_on() -> None:
    given = ["fit", "a.jsonl", "--processes", "2", "--out", "x", "--processes=4"]
    assert without_processes(given) == ["fit", "a.jsonl", "--out", "x"]


def test_no_process_is_refused(clips: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["fit", str(clips), "--processes", "0"]) == 1
    assert capsys.readouterr().err == (
        "crema: --processes 0 starts nothing. Accepted: 1 and more. Give the number of GPUs, or of groups of CPU "
        "cores, that are to work.\n"
    )


def test_a_launch_inside_a_launch_is_refused(
    clips: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("WORLD_SIZE", "4")
    assert main(["fit", str(clips), "--processes", "2"]) == 1
    assert capsys.readouterr().err == (
        "crema: --processes 2 inside a launch of 4 processes (WORLD_SIZE). One launcher is enough. Leave --processes "
        "out, or start crema without the other launcher.\n"
    )


def test_more_processes_than_gpus_are_refused() -> None:
    refuse_too_many(2, num_gpus=0)
    refuse_too_many(2, num_gpus=2)
    with pytest.raises(OptionsError) as error:
        refuse_too_many(4, num_gpus=2)
    assert str(error.value) == (
        "4 processes were asked for and this machine has 2 GPUs. Each process needs one of its own. Use --processes 2, "
        "or set CUDA_VISIBLE_DEVICES='' to work on CPU cores."
    )
