"""The training of crema-tiny, a few steps of each stage."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoTokenizer, Blip2ForConditionalGeneration

from crema_world import WorldError
from crema_world.backbone import new_backbone
from crema_world.language_stage import answer_labels, embed_prompts, rate_factor
from crema_world.pictures import SHAPE_LABELS, draw_pictures
from crema_world.pretrain import Schedule, pretrain
from crema_world.prompts import token_ids
from crema_world.scene import arrangement, split_of
from crema_world.text import draw_text_sample
from crema_world.vision_stage import coarse_patches, normalize

SHORT = Schedule(language_steps=2, vision_steps=2, align_steps=1, caption_steps=2, num_pictures=12, batch_size=4)


@pytest.mark.slow
def test_a_few_steps_write_a_checkpoint_that_loads_and_repeat_exactly(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pretrain(tmp_path / "one", seed=1, schedule=SHORT)
    pretrain(tmp_path / "two", seed=1, schedule=SHORT)
    assert (tmp_path / "one/model.safetensors").read_bytes() == (tmp_path / "two/model.safetensors").read_bytes()
    _, found = Blip2ForConditionalGeneration.from_pretrained(tmp_path / "one", output_loading_info=True)
    assert {name: list(keys) for name, keys in found.items() if keys} == {}
    assert AutoTokenizer.from_pretrained(tmp_path / "one")("ball").input_ids == [*token_ids("ball"), 1]
    assert [line.split()[1] for line in capsys.readouterr().out.splitlines()] == ["language", "vision", "captions"] * 2
    assert sorted(path.name for path in tmp_path.iterdir()) == ["one", "two"]


def test_the_last_stage_leaves_the_frozen_parts_alone() -> None:
    from crema_world.caption_stage import train_captions

    model, _ = new_backbone(seed=0)
    before = {name: weight.clone() for name, weight in model.state_dict().items()}
    train_captions(model, draw_pictures(12, seed=0), num_align_steps=1, num_steps=2, batch_size=4, seed=0)
    moved = {name.split(".")[0] for name, weight in model.state_dict().items() if not torch.equal(weight, before[name])}
    assert moved == {"query_tokens", "qformer", "language_projection"}


def test_a_used_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("keep")
    with pytest.raises(WorldError) as caught:
        pretrain(tmp_path, schedule=SHORT)
    assert str(caught.value) == (
        f"{tmp_path} exists and is not an empty folder. A backbone is written only into a new or empty folder. "
        "Choose another folder with --out. Nothing was changed."
    )


def test_pictures_show_no_room_of_another_split() -> None:
    pictures = draw_pictures(200, seed=0)
    rooms = [things for things in pictures.things if things and things[0][2] in SHAPE_LABELS[1:7]]
    assert len(rooms) == 120
    assert {split_of(arrangement([(shape, color) for _, color, shape in things])) for things in rooms} == {"train"}
    assert {len(things) for things in pictures.things} == {0, 3}


def test_patches_of_a_room_are_named_after_the_thing_that_covers_them() -> None:
    pictures = draw_pictures(60, seed=0)
    for things, shapes in zip(pictures.things, pictures.shapes, strict=True):
        if things and things[0][2] in SHAPE_LABELS[1:7]:
            found = {SHAPE_LABELS[label] for label in shapes if label > 0}
            assert found == {shape for _, _, shape in things}


def test_coarse_patches_are_mean_colours_in_reading_order() -> None:
    image = np.zeros((1, 64, 64, 3), dtype=np.uint8)
    image[0, 0:2, 10:12] = 255  # row 0, column 1 of the cells in the second patch of the first row
    patches = coarse_patches(normalize(image)).unflatten(-1, (3, 4, 4))
    assert patches.shape == (1, 64, 3, 4, 4)
    bright = (patches > 0).nonzero().tolist()
    assert bright == [[0, 1, channel, 0, 1] for channel in range(3)]


def test_every_text_answer_is_in_its_prompt_or_nobody_knows_it() -> None:
    generator = random.Random(0)
    hits = total = 0
    for _ in range(300):
        prompt, answer = draw_text_sample(generator, dense=False, num_frames=1)
        said = {word for words in prompt.words for word in words}
        in_reading = {word for word in said if token_ids(answer)[0] == word}
        hits += bool(in_reading)
        total += 1
    assert hits / total > 0.5  # the others are inside readings, or asked although nobody tells


def test_prompts_are_padded_behind_and_sum_the_words_of_a_position() -> None:
    generator = random.Random(0)
    prompts = [draw_text_sample(generator, dense=dense, num_frames=1)[0] for dense in (False, True)]
    embedding = torch.nn.Embedding(400, 8)
    embedded, mask = embed_prompts(embedding, prompts, torch.Generator().manual_seed(0))
    lengths = [len(prompt.words) for prompt in prompts]
    assert mask.sum(1).tolist() == lengths
    assert embedded.shape == (2, max(lengths), 8)


def test_labels_end_with_the_end_token_and_ignore_padding() -> None:
    red, ball = token_ids("red ball")
    assert answer_labels(["red", "red ball"]).tolist() == [[red, 1, -100], [red, ball, 1]]


def test_the_rate_warms_up_stays_and_decays() -> None:
    factors = [rate_factor(step, 3000) for step in (0, 299, 1999, 2500, 2999)]
    assert factors == pytest.approx([1 / 300, 1, 1, 0.5, 0.02], abs=1e-3)
