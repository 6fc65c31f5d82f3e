"""A terminal that knows only ASCII: every verb that prints texts of users ends as elsewhere."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.packages import needs

ODD = "was hör’ ich — 何 \U0001f514?"
"""Letters that ASCII has not."""
SCRIPT = """
import json, os, sys
from crema_core.cli.main import main
words, place = json.loads(sys.argv[1]), sys.argv[2]
# As Python gets the words of a terminal: bytes that are no ASCII are halves of characters.
codes = [main([os.fsdecode(word.encode("utf-8", "replace")) for word in own]) for own in words]
open(place, "w").write(json.dumps(codes))
"""


@pytest.mark.slow
@needs("crema-world")
def test_every_verb_that_prints_texts_of_users_ends_well_on_an_ascii_terminal(tmp_path: Path) -> None:
    from crema_world import make_world

    made = make_world(tmp_path / "world", num_clips=2, seed=0, split="train").data_file
    lines = [json.loads(line) for line in made.read_text(encoding="utf-8").splitlines()]
    clip = made.parent / lines[0]["video"]
    odd_clip = clip.with_name("hör ☃.mp4")
    odd_clip.write_bytes(clip.read_bytes())
    data = made.with_name("dätä.jsonl")
    odd = [
        own | {"id": f"{ODD} {number}", "question": f"{ODD} {own['question']}", "type": ODD}
        for number, own in enumerate(lines)
    ]
    data.write_text("".join(json.dumps(own) + "\n" for own in odd), encoding="utf-8")
    run, out = str(tmp_path / "rün"), str(tmp_path / "äns.jsonl")
    words = [
        ["plugins", "list"],
        ["data", "check", str(data), "--deep", "--modalities", "video"],
        ["fit", str(data), "--eval-data", str(data), "--modalities", "video", "--set", "epochs=1", "--out", run],
        ["eval", run, str(data), "--out", out],
        ["answer", run, "What is it?", "--video", str(odd_clip)],
        ["show", str(odd_clip), "--modality", "video", "--out", str(tmp_path / "bïld.png")],
        ["describe", run],
        ["answer", run, ODD, "--video", str(tmp_path / f"{ODD}.mp4")],
    ]
    settings = {"PYTHONIOENCODING": "ascii", "LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, json.dumps(words), str(tmp_path / "codes")],
        env=os.environ | settings,
        capture_output=True,
        check=False,
    )
    text = done.stdout.decode("ascii") + done.stderr.decode("ascii")
    assert "Traceback" not in text, text
    assert "UnicodeEncodeError" not in text, text
    codes = json.loads((tmp_path / "codes").read_text())
    assert [code for code in codes if code not in (0, 3)] == [1], f"the last one names no file; {text}"
    answers = [json.loads(line) for line in Path(out).read_text(encoding="utf-8").splitlines()]
    assert [own["id"] for own in answers] == [own["id"] for own in odd]
    report = next(Path(run).rglob("report.html")).read_text(encoding="utf-8")
    assert ODD in report
