"""Damaged files of every format that is read: the short version of the campaign."""

from __future__ import annotations

import json
import os
import signal
import time
from pathlib import Path

import pytest

from benchmarks.campaigns import media
from tests.support.ffmpeg import needs_ffmpeg

for _package in ("crema_audio", "crema_3d", "crema_geometry", "crema_thermal", "crema_touch"):
    pytest.importorskip(_package)
FEW, SEED = 6, 1
OPTIONAL = (".exr", ".las", ".laz", ".amr", ".jp2", ".avif")
"""Formats whose library or encoder may not be installed."""


@needs_ffmpeg
@pytest.mark.slow
def test_damaged_files_of_every_format_are_read_or_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert media.main(["--mutants", str(FEW), "--seed", str(SEED), "--folder", str(tmp_path / "wrong")]) == 0
    *rows, counted = capsys.readouterr().out.splitlines()
    counts = json.loads(counted)["media"]
    absent = [suffix for suffix in media.FORMATS if not any(row.startswith(f"{suffix} ") for row in rows)]
    assert set(absent) <= set(OPTIONAL)
    pairs = sum(len(names) for suffix, names in media.FORMATS.items() if suffix not in absent)
    assert (counts["read"] + counts["refused"], counts["wrong"]) == (FEW * pairs, 0)
    assert min(counts["read"], counts["refused"]) > pairs  # damage that is never seen, or always, tests nothing


def _do_what_the_name_says(path: Path) -> str:
    match path.name:
        case "crash":
            os.kill(os.getpid(), signal.SIGKILL)
        case "hang":
            time.sleep(600)
        case "memory":
            bytearray(1 << 31)
    return "read"


@pytest.mark.slow
def test_what_ends_a_process_or_takes_too_much_is_counted_and_the_next_file_is_read() -> None:
    names = ["a", "crash", "b", "hang", "crash", "c"]
    found = media.read_all([Path(name) for name in names], _do_what_the_name_says, max_s=15.0)
    assert found == ["read", "the process died (SIGKILL)", "read", "hangs", "the process died (SIGKILL)", "read"]
    (found_memory,) = media.read_all([Path("memory")], _do_what_the_name_says, max_bytes=1 << 28)
    assert found_memory == "the process died (99)"
