"""`ulimit -n` of a shell or a container: with few open files a verb works or ends with one message; none hangs."""

from __future__ import annotations

import importlib
import multiprocessing
import os
import sys
from pathlib import Path

import pytest

import crema_core
from crema_core.cli.main import main

resource = pytest.importorskip("resource")  # POSIX
pytestmark = pytest.mark.slow  # starts processes
HANGS_S = 300


def run(words: list[str], errors: Path, limit: int) -> None:
    """Run `crema` with few descriptors; the heavy libraries are imported before."""
    for name in ("advice", "answer", "encode", "fit"):
        importlib.import_module(f"crema_core.cli.{name}")
    handle = os.open(errors, os.O_WRONLY | os.O_CREAT)
    for stream in (1, 2):
        os.dup2(handle, stream)
    os.close(handle)
    sys.stdout, sys.stderr = (os.fdopen(stream, "w") for stream in (1, 2))  # pytest's are another file
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit))
    code = main(words)
    sys.stderr.flush()
    os._exit(code)


@pytest.fixture(scope="module")
def model(tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("saved") / "model"
    crema_core.build(["video"], backbone=str(tiny_folder)).save_pretrained(folder)
    return folder


@pytest.mark.parametrize("spare", [2, 8])
@pytest.mark.parametrize(("verb", "workers"), [("fit", 0), ("fit", 2), ("encode", 0), ("encode", 2), ("answer", 0)])
def test_few_descriptors_are_enough_or_named(
    spare: int, verb: str, workers: int, clips: Path, model: Path, tiny_folder: Path, tmp_path: Path
) -> None:
    built = [str(clips), "--modalities", "video", "--backbone", str(tiny_folder), "--set", "video.num_frames=2"]
    number = ["--set", f"num_workers={workers}"]
    words = {
        "fit": ["fit", *built, "--out", str(tmp_path / "run"), "--set", "epochs=1", "--set", "cache=none", *number],
        "encode": ["encode", *built, "--cache", str(tmp_path / "features"), "--workers", str(workers)],
        "answer": ["answer", str(model), "what?", "--video", str(clips.parent / "clips" / "000000.mp4")],
    }[verb]
    used = len(list(Path("/dev/fd").iterdir()))
    context = multiprocessing.get_context("fork")
    process = context.Process(target=run, args=(words, tmp_path / "errors.txt", used + spare))
    process.start()
    process.join(HANGS_S)
    text = (tmp_path / "errors.txt").read_text()
    if process.is_alive():
        process.kill()
        pytest.fail(f"it hangs: {text}")
    assert process.exitcode in (0, 1), text
    if process.exitcode == 1:
        assert text.splitlines()[-1].startswith("crema: "), text
        assert "too many open files" in text.lower() or "Too many files are open" in text, text
        assert "Traceback" not in text, text
