"""A short version of the campaign of races: each kind once."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.campaigns import races


@pytest.mark.slow
@pytest.mark.parametrize("name", list(races.RACES))
def test_two_processes_at_one_folder_are_one_owner_or_one_whole_result(name: str, tmp_path: Path) -> None:
    found = races.campaign(tmp_path / "races", times=1, seed=0, only=name)
    assert found == {name: {"": 1}}
