"""What PAVE's benchmark trains on and asks."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from benchmarks.pave import lessons, questions
from crema_core.world.generate import make_world
from crema_core.world.questions import SENSE_OF_TYPE

NAMES = ["video", "touch"]


def test_every_clip_has_its_caption_and_as_many_questions_about_the_named_senses_alone(tmp_path: Path) -> None:
    world = make_world(tmp_path / "train", num_clips=4, seed=0, split="train")
    drawn = lessons(world, NAMES, per_clip=2, seed=0)
    captions = {record.id for record in drawn if record.type not in SENSE_OF_TYPE}
    asked = [record for record in drawn if record.id not in captions]
    assert len(captions) == 4
    assert list(Counter(record.id.partition("-")[0] for record in asked).values()) == [2] * 4
    assert {SENSE_OF_TYPE[record.type] for record in asked} <= set(NAMES)
    assert all(set(record.sources) <= set(NAMES) for record in drawn)
    assert drawn == lessons(world, NAMES, per_clip=2, seed=0)
    assert {record.id for record in asked} < {record.id for record in questions(world, NAMES)}
