"""crema-tiny-vlm as it is shipped: small, loads like any Qwen3-VL, sees what RGB shows and nothing else."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoModelForImageTextToText, AutoProcessor, Qwen3VLForConditionalGeneration

from crema_core.api.build import build
from crema_core.api.load import load
from crema_core.data.data_file import read_data_file
from crema_core.evaluation.run import evaluate
from crema_core.model.shipped import tiny_backbone_path
from crema_world import pretrain_vlm
from crema_world.errors import WorldError
from crema_world.generate import make_world
from crema_world.pictures import draw_pictures
from crema_world.questions import CHOICES_OF_TYPE
from crema_world.vision_stage import normalize

NAME = "crema-tiny-vlm"
QFORMER = {"layers": 1, "width": 64, "num_queries": 4}


def test_it_is_smaller_than_six_megabytes_and_loads_without_missing_or_unexpected_weights() -> None:
    place = tiny_backbone_path(NAME)
    assert sum(path.stat().st_size for path in place.iterdir()) < 6e6
    _, found = Qwen3VLForConditionalGeneration.from_pretrained(place, output_loading_info=True)
    assert {name: list(keys) for name, keys in found.items() if keys} == {}


def test_still_clips_are_cut_as_its_processor_cuts_them() -> None:
    pictures = draw_pictures(4, seed=0).images
    patches, grid = pretrain_vlm.cut(normalize(pictures), num_steps=2)
    processor = AutoProcessor.from_pretrained(tiny_backbone_path(NAME)).video_processor
    clips = [np.stack([picture] * 4) for picture in pictures]
    wanted = processor(videos=clips, do_sample_frames=False, return_tensors="pt")
    torch.testing.assert_close(patches, wanted["pixel_values_videos"])
    assert torch.equal(grid, wanted["video_grid_thw"])


def test_transformers_alone_is_told_what_is_on_the_left(tmp_path: Path) -> None:
    place = tiny_backbone_path(NAME)
    model = AutoModelForImageTextToText.from_pretrained(place).eval()
    processor = AutoProcessor.from_pretrained(place)
    pictures = draw_pictures(40, seed=5)
    rows = [row for row, things in enumerate(pictures.things) if things][:16]
    right = 0
    for row in rows:
        turn = [{"type": "image"}, {"type": "text", "text": "what is on the left?"}]
        text = processor.apply_chat_template([{"role": "user", "content": turn}], add_generation_prompt=True)
        inputs = processor(text=[text], images=[pictures.images[row]], return_tensors="pt")
        said = model.generate(**inputs, max_new_tokens=1, do_sample=False)[0, -1]
        right += processor.tokenizer.decode(said) == pictures.things[row][0][2]
    assert right >= 14


def test_a_prompt_of_the_training_is_one_of_the_processor() -> None:
    processor = AutoProcessor.from_pretrained(tiny_backbone_path(NAME))
    tokenizer = processor.tokenizer
    pictures = draw_pictures(10, seed=0)
    row = next(row for row, things in enumerate(pictures.things) if things)
    prompt, _ = pretrain_vlm._asked(tokenizer, pictures, row, random.Random(3), dense=False, num_steps=1)
    ids = [words[0] for words in prompt.words]
    clip = tokenizer.convert_tokens_to_ids(pretrain_vlm.CLIP)
    begin, end = ids.index(clip), len(ids) - ids[::-1].index(clip)
    turn = [{"type": "video"}, {"type": "text", "text": "?"}]
    text = processor.apply_chat_template([{"role": "user", "content": turn}], add_generation_prompt=True)
    given = {"videos": [np.stack([pictures.images[row]] * 2)], "do_sample_frames": False, "return_tensors": "pt"}
    metadata = [{"fps": 8.0, "total_num_frames": 2, "frames_indices": [4, 12]}]
    wanted = processor(text=[text], video_metadata=metadata, **given)["input_ids"][0].tolist()
    first = wanted.index(clip)
    assert end - begin == wanted.count(clip)
    # turn, the moment as a number with one digit behind the point, and the mark of what is seen
    shape = [tokenizer.decode([one]) for one in ids[:begin]]
    assert [part if not part.isdigit() else "0" for part in shape] == [
        part if not part.isdigit() else "0" for part in (tokenizer.decode([one]) for one in wanted[:first])
    ]
    assert ids[-2:] == wanted[-2:]


@pytest.mark.slow
def test_it_names_colours_and_shapes_and_guesses_the_rest(tmp_path: Path) -> None:
    world = make_world(tmp_path / "test", num_clips=64, seed=11, split="test")
    model = build([{"name": "video", "num_frames": 2}], backbone=NAME, qformer=QFORMER)
    records = read_data_file(world.data_file, modalities=("video",))
    by_type = evaluate(model, records, batch_size=64, max_new_tokens=3).by_type
    assert min(by_type.pop("color"), by_type.pop("shape")) >= 0.9
    assert len(by_type) == 7
    assert all(accuracy < 1 / len(CHOICES_OF_TYPE[kind]) + 0.2 for kind, accuracy in by_type.items())


def test_a_saved_model_finds_it_by_its_name(tmp_path: Path) -> None:
    world = make_world(tmp_path / "test", num_clips=1, seed=0, split="test")
    model = build(["video", "touch"], backbone=NAME, qformer="crema-tiny")
    model.save_pretrained(tmp_path / "saved")
    record = read_data_file(world.data_file, modalities=("video", "touch"))[0]
    item = {"question": record.question, **record.sources}
    assert load(tmp_path / "saved").answer_many([item]) == model.answer_many([item])


def test_the_command_writes_a_model_and_refuses_a_folder_in_use(tmp_path: Path) -> None:
    few = {"language_steps": 1, "align_steps": 1, "picture_steps": 2, "num_pictures": 60, "batch_size": 4}
    said: list[str] = []
    pretrain_vlm.pretrain_vlm(tmp_path / "out", **few, report=said.append)
    assert [line.split()[0] for line in said] == ["language", "align", "pictures"]
    Qwen3VLForConditionalGeneration.from_pretrained(tmp_path / "out")
    with pytest.raises(WorldError, match="not an empty folder"):
        pretrain_vlm.pretrain_vlm(tmp_path / "out", **few)
