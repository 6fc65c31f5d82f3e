"""What PAVE's benchmark trains on and asks."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.pave import main, questions
from crema_world.generate import make_world
from crema_world.questions import MODALITY_OF_TYPE


def test_questions_are_about_the_named_modalities_alone_and_so_are_their_sources(tmp_path: Path) -> None:
    world = make_world(tmp_path / "train", num_clips=4, seed=0, split="train")
    found = questions(world.data_file, ["video", "touch"])
    assert {MODALITY_OF_TYPE[record.type] for record in found} == {"video", "touch"}
    assert {frozenset(record.sources) for record in found} == {frozenset({"video", "touch"})}
    assert len(found) == 4 * sum(modality in ("video", "touch") for modality in MODALITY_OF_TYPE.values())


@pytest.mark.slow
def test_rows_may_be_asked_for_later_of_the_same_clips(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sizes = ["--clips", "4", "--test-clips", "2", "--epochs", "1", "--out", str(tmp_path)]
    assert main(["--rows", "table4", "--sides", "audio", *sizes]) == 0
    assert main(["--rows", "stages", "--sides", "audio", "touch", *sizes]) == 0
    assert "then touch, the rest frozen" in capsys.readouterr().out
