"""crema-tiny-video as it is shipped: small, loads like any LLaVA-OneVision, sees what RGB shows and nothing else."""

from __future__ import annotations

from pathlib import Path

import pytest
from transformers import LlavaOnevisionForConditionalGeneration

from crema_core.api.build import build
from crema_core.api.load import load
from crema_core.data.data_file import read_data_file
from crema_core.evaluation.run import evaluate
from crema_core.model.shipped import tiny_backbone_path
from crema_world.generate import make_world
from crema_world.questions import CHOICES_OF_TYPE

pytest.importorskip("crema_pave", reason="a strategy that takes a backbone's visual tokens")

NAME = "crema-tiny-video"
PAVE = {"name": "pave", "embed_dim": 16, "num_heads": 2, "newlines": "one_token"}
VIDEO = {"name": "video", "num_frames": 2}


def test_it_is_smaller_than_five_megabytes_and_loads_without_missing_or_unexpected_weights() -> None:
    place = tiny_backbone_path(NAME)
    assert sum(path.stat().st_size for path in place.iterdir()) < 5e6
    _, found = LlavaOnevisionForConditionalGeneration.from_pretrained(place, output_loading_info=True)
    assert {name: list(keys) for name, keys in found.items() if keys} == {}


@pytest.mark.slow
def test_it_names_colours_and_shapes_and_guesses_the_rest(tmp_path: Path) -> None:
    world = make_world(tmp_path / "test", num_clips=64, seed=11, split="test")
    model = build([VIDEO], backbone=NAME, fusion=PAVE)
    records = read_data_file(world.data_file, modalities=("video",))
    by_type = evaluate(model, records, batch_size=64, max_new_tokens=3).by_type
    assert min(by_type.pop("color"), by_type.pop("shape")) >= 0.9
    assert len(by_type) == 7
    assert all(accuracy < 1 / len(CHOICES_OF_TYPE[kind]) + 0.2 for kind, accuracy in by_type.items())


@pytest.mark.slow
def test_a_saved_model_finds_it_by_its_name(tmp_path: Path) -> None:
    world = make_world(tmp_path / "test", num_clips=1, seed=0, split="test")
    model = build([VIDEO, "touch"], backbone=NAME, fusion=PAVE, tuning={"rank": 2, "alpha": 2})
    model.save_pretrained(tmp_path / "saved")
    record = read_data_file(world.data_file, modalities=("video", "touch"))[0]
    item = {"question": record.question, **record.sources}
    assert load(tmp_path / "saved").answer_many([item]) == model.answer_many([item])
