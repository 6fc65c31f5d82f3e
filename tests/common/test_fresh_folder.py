"""`fresh_folder` gives its place a whole folder or leaves it as it was."""

from __future__ import annotations

from pathlib import Path

import pytest

from crema_core.common.atomic import fresh_folder, set_aside
from crema_core.errors import WriteError


@pytest.mark.parametrize("flush", [True, False])
@pytest.mark.parametrize("exists", [True, False])
def test_a_new_or_empty_place_is_taken_without_leftovers(tmp_path: Path, exists: bool, flush: bool) -> None:
    place = tmp_path / "above" / "place"
    if exists:
        place.mkdir(parents=True)
    with fresh_folder(place, flush=flush) as scratch:
        (scratch / "file").write_text("whole")
        assert not (place / "file").exists()
    assert [path.name for path in place.iterdir()] == ["file"]
    assert [path.name for path in place.parent.iterdir()] == ["place"]
    assert place.stat().st_mode & 0o077 == (tmp_path / "above").stat().st_mode & 0o077


def test_an_error_leaves_the_place_as_it_was(tmp_path: Path) -> None:
    def interrupted() -> None:
        with fresh_folder(tmp_path / "place") as scratch:
            (scratch / "file").write_text("half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert list(tmp_path.iterdir()) == []


def test_a_place_that_was_filled_meanwhile_is_not_touched(tmp_path: Path) -> None:
    place = tmp_path / "place"

    def late() -> None:
        with fresh_folder(place) as scratch:
            (scratch / "file").write_text("ours")
            place.mkdir()
            (place / "theirs").write_text("theirs")

    with pytest.raises(WriteError, match="somebody else has filled it meanwhile"):
        late()
    assert [path.name for path in tmp_path.iterdir()] == ["place"]
    assert [path.name for path in place.iterdir()] == ["theirs"]


def test_what_is_set_aside_keeps_its_folder(tmp_path: Path) -> None:
    (tmp_path / "shard").write_text("damaged")
    set_aside(tmp_path / "shard", suffix=".bad")
    assert [path.name for path in tmp_path.iterdir()] == ["shard.bad"]
