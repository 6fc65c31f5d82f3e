"""The walk through the code names files that stand in the room they are told under and are called on the way."""

from __future__ import annotations

import inspect
import re
import sys
from collections.abc import Callable
from pathlib import Path
from types import FrameType

import pytest

from crema_core.cli.main import main
from tests.support.world import clips

__all__ = ["clips"]

ROOT = Path(__file__).parents[2]
CORE = ROOT / "crema_core"
PAGE = (ROOT / "docs" / "how_it_works.md").read_text(encoding="utf-8")
WALKS = {
    title: re.split(r"^### \d+\. ", text, flags=re.M)[1:]
    for title, text in re.findall(r"^## (.*?)\n(.*?)(?=^## |\Z)", PAGE, flags=re.M | re.S)
    if "through" in title
}
ANSWER, FIT = WALKS


def named(section: str) -> list[str]:
    return re.findall(r"`([a-z_]+/[\w/]*\.py)`", section)


@pytest.mark.parametrize("title", WALKS)
def test_every_room_is_entered_once_and_files_stand_under_their_room(title: str) -> None:
    rooms = [section.split("`")[1] for section in WALKS[title]]
    assert len(rooms) == len(set(rooms)) >= 9
    for room, section in zip(rooms, WALKS[title], strict=True):
        files = named(section)
        assert files, room
        assert [name for name in files if not name.startswith(room)] == []
        assert [name for name in files if not (CORE / name).is_file()] == []


def test_the_map_is_that_of_the_contributors_from_below() -> None:
    drawn = re.findall(r"^([a-z]+(?:/|\.py)) ", PAGE.partition("## The map")[2].partition("## A clip")[0], flags=re.M)
    contributing = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8").partition("## The map")[2]
    assert drawn[::-1] == re.findall(r"^\| `([a-z]+(?:/|\.py))` \|", contributing, flags=re.M)


def called(run: Callable[[], int]) -> set[str]:
    """Return the files of core in which a function was called; what importing runs does not count."""
    found = set()

    def note(frame: FrameType, event: str, argument: object) -> None:
        code = frame.f_code
        # Modules and the bodies of classes are frames too, without variables of their own.
        if event == "call" and code.co_flags & inspect.CO_NEWLOCALS and not code.co_name.startswith("<"):
            found.add(code.co_filename)

    sys.setprofile(note)
    try:
        assert run() == 0
    finally:
        sys.setprofile(None)
    return {Path(name).relative_to(CORE).as_posix() for name in found if name.startswith(f"{CORE}/")}


@pytest.mark.slow
def test_every_file_named_is_on_the_way(clips: Path, tmp_path: Path) -> None:
    run, stem = tmp_path / "run", str(clips.parent / "clips" / "000000")
    fit = ["fit", str(clips), "--eval-data", str(clips), "--modalities", "video,audio", "--out", str(run)]
    fit += ["--preset", "tiny", "--set", "epochs=1", "--set", "batch_size=27"]
    answer = ["answer", str(run), "which sound comes first?", "--video", f"{stem}.mp4", "--audio", f"{stem}.wav"]
    for title, words in ((FIT, fit), (ANSWER, answer)):
        entered = called(lambda words=words: main(words))
        assert [name for section in WALKS[title] for name in named(section) if name not in entered] == [], title
