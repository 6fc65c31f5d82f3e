"""`--processes 2` of the verbs with processes of their own: SIGTERM or Ctrl-C ends all, and leaves nothing."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from tests.support.experts import save_glpn
from tests.support.stopping import END_S, stopped

pytestmark = pytest.mark.slow  # starts processes
TERM, INT = [signal.SIGTERM], [signal.SIGINT, signal.SIGINT]


def words_of(verb: str, clips: Path, tiny: Path, folder: Path) -> list[str]:
    data, modalities = str(clips), ["--modalities", "video"]
    if verb == "encode":
        return ["encode", data, *modalities, "--backbone", str(tiny), "--cache", "out", "--batch-size", "1"]
    if verb == "check":
        for number in range(600):  # a link is another source
            (folder / f"{number}.mp4").symlink_to(clips.parent / "clips" / "000000.mp4")
        kept = '{{"id": "{0}", "question": "what?", "answer": "that.", "video": "{0}.mp4"}}'
        (folder / "many.jsonl").write_text("".join(kept.format(number) + "\n" for number in range(600)))
        return ["data", "check", "many.jsonl", *modalities, "--deep"]
    if verb == "make":
        return ["world", "make", "out", "--clips", "2000", "--seed", "0", "--split", "train"]
    pytest.importorskip("crema_geometry")
    videos = sorted(str(own) for own in (clips.parent / "clips").glob("*.mp4"))
    save_glpn(folder / "glpn")
    return ["extract", "depth", *videos, "--out", "out", "--depth-model", "glpn"]


@pytest.mark.parametrize(("signals", "code", "cause"), [(TERM, 143, "terminated"), (INT, 130, "interrupted")])
@pytest.mark.parametrize("verb", ["encode", "check", "make", "extract"])
def test_all_processes_stop_within_seconds(
    verb: str, signals: list[signal.Signals], code: int, cause: str, clips: Path, tiny_folder: Path, tmp_path: Path
) -> None:
    words = words_of(verb, clips, tiny_folder, tmp_path)
    found = stopped([*words, "--processes", "2"], signals, tmp_path, to_all=signals == INT)
    assert found.left == []
    assert (found.code, found.lines[-1].split(";")[0]) == (code, f"crema: {cause}"), found.lines
    assert not [line for line in found.lines if "Traceback" in line or "Error" in line]
    assert found.seconds < END_S
    hidden = [own for own in tmp_path.rglob("*") if ".tmp" in own.name or own.name in ("owner.lock", "owner.json")]
    assert hidden == []
    if verb == "make":
        assert not (tmp_path / "out").exists()
