"""A terminal that knows only ASCII, and half characters in texts of users: every verb ends as elsewhere."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.packages import needs

ODD = "was hör’ ich — 何 \U0001f514 \ud800?"
"""Letters that ASCII has not, and half of a character, which no encoding has."""
SCRIPT = """
import json, sys
from crema_core.cli.main import main
words, place = json.loads(sys.argv[1]), sys.argv[2]
codes = [main(own) for own in words]
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
    shown = os.path.relpath(odd_clip, made.parent)
    odd = [
        own | {"id": f"{ODD} {number}", "question": f"{ODD} {own['question']}", "type": ODD, "video": shown}
        for number, own in enumerate(lines)
    ]
    data.write_text("".join(json.dumps(own) + "\n" for own in odd), encoding="utf-8")
    run, out = str(tmp_path / "rün"), str(tmp_path / "äns.jsonl")
    words = [
        ["plugins", "list"],
        ["data", "check", str(data), "--deep", "--modalities", "video"],
        ["fit", str(data), str(data), "--modalities", "video", "--set", "epochs=1", "--out", run],
        ["eval", run, str(data), "--out", out],
        ["answer", run, ODD, "--video", str(odd_clip)],
        ["show", str(odd_clip), "--modality", "video", "--out", str(tmp_path / "bïld.png")],
        ["describe", run],
        ["answer", run, ODD, "--video", str(tmp_path / f"{ODD.replace(chr(0xD800), '')}.mp4")],
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
    assert [code for code in codes if code not in (0, 3)] == [1], "the last one names no file"
    answers = [json.loads(line) for line in Path(out).read_text(encoding="utf-8").splitlines()]
    assert [own["id"] for own in answers] == [own["id"] for own in odd], "half a character comes back as it was"
    report = next(Path(run).rglob("report.html")).read_text(encoding="utf-8")
    assert "\\ud800" in report
