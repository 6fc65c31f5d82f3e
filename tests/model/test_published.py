"""Checkpoints in the format of the published ones, through the code that loads the hub's."""

from __future__ import annotations

import json
import shutil
import warnings
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from crema_core.api.build import build
from crema_core.api.load import load
from crema_core.errors import CheckpointError
from crema_core.model.backbone import Backbone
from crema_core.model.load_backbone import load_backbone
from tests.support.checkpoints import PUBLISHED, Published, save_published
from tests.support.modalities import four_modalities, register_modalities, wave_spec
from tests.support.numeric import MODEL_ULPS, assert_close_to_scale
from tests.support.steps import SOURCES, train_a_little

Folders = Callable[[Published], Path]


def weights_in(folder: Path) -> dict[str, torch.Tensor]:
    files = set(json.loads((folder / "model.safetensors.index.json").read_text())["weight_map"].values())
    assert len(files) > 1, "the checkpoint is meant to be sharded"
    return {key: value for file in files for key, value in load_file(folder / file).items()}


@pytest.mark.parametrize("old", [False, True], ids=["today's", "of 2023"])
@pytest.mark.parametrize("kind", PUBLISHED)
def test_every_weight_of_the_shards_arrives_in_full_precision(kind: Published, old: bool, tmp_path: Path) -> None:
    folder = save_published(tmp_path / kind, kind, old=old)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        backbone = load_backbone(folder)
    state = {key.replace("qformer.model.", "qformer."): value for key, value in backbone.state_dict().items()}
    for key, value in weights_in(folder).items():
        assert torch.equal(state[key], value), key
    assert {value.dtype for value in state.values()} == {torch.float32}
    assert (backbone.image_size, backbone.vision_dim, backbone.language_dim) == (16, 16, 24)


@pytest.mark.parametrize("kind", ["blip2-flan-t5", "instructblip-flan-t5"])
def test_the_output_layer_of_flan_t5_stays_apart_from_its_embedding(kind: Published, published: Folders) -> None:
    language = load_backbone(published(kind)).language_model
    assert not torch.equal(language.lm_head.weight, language.shared.weight)
    assert torch.equal(language.encoder.embed_tokens.weight, language.shared.weight)
    assert not language.config.scale_decoder_outputs
    assert language.config.dense_act_fn == "gelu"


@pytest.mark.parametrize("kind", PUBLISHED)
def test_old_and_new_configurations_give_the_same_model(kind: Published, published: Folders, tmp_path: Path) -> None:
    old = build(four_modalities(), backbone=save_published(tmp_path / kind, kind, old=True))
    new = build(four_modalities(), backbone=published(kind))
    assert old.answer("What is it?", **SOURCES) == new.answer("What is it?", **SOURCES)
    choices = ["red", "blue"]
    assert old.answer("What is it?", choices, **SOURCES) == new.answer("What is it?", choices, **SOURCES)


@pytest.mark.slow
@pytest.mark.parametrize("kind", PUBLISHED)
def test_training_saving_and_loading_work(kind: Published, published: Folders, tmp_path: Path) -> None:
    register_modalities()
    model = build(four_modalities(), backbone=published(kind))
    frozen = model.frozen_fingerprint()
    losses = train_a_little(model)
    assert losses[-1] < losses[0]
    assert model.frozen_fingerprint() == frozen
    model.save_pretrained(tmp_path / "saved")
    loaded = load(tmp_path / "saved")
    for choices in (None, ["red", "blue"]):
        assert loaded.answer("What is it?", choices, **SOURCES) == model.answer("What is it?", choices, **SOURCES)


@pytest.mark.parametrize("kind", PUBLISHED)
def test_answers_do_not_depend_on_the_other_questions_of_a_batch(kind: Published, published: Folders) -> None:
    model = build(four_modalities(), backbone=published(kind))
    items = [
        {"question": "What is it?", **SOURCES},
        {"question": "Is the colour of the thing left or right, red or blue?", "main": SOURCES["main"][:1]},
        {"question": "What?", "points": SOURCES["points"]},
    ]
    together = model.answer_many(items)
    assert [answer.text for answer in together] == [model.answer_many([item])[0].text for item in items]
    scored = [{**item, "choices": ["red", "blue", "green"]} for item in items]
    for own, item in zip(model.answer_many(scored), scored, strict=True):
        alone = model.answer_many([item])[0].scores
        assert own.scores.keys() == alone.keys()
        assert_close_to_scale(torch.tensor([*own.scores.values()]), torch.tensor([*alone.values()]), ulps=MODEL_ULPS)


def test_an_answer_ends_where_the_checkpoint_says_it_does(published: Folders) -> None:
    chat_format = build([wave_spec()], backbone=published("blip2-opt")).language.chat_format
    assert chat_format.end == 202, "BLIP-2's OPT ends with a new line"
    assert chat_format.stops == (2, 202), "its tokenizer's own end token stops it too"


def test_a_missing_shard_is_refused(published: Folders, tmp_path: Path) -> None:
    folder = shutil.copytree(published("blip2-opt"), tmp_path / "damaged")
    (folder / "model-00002-of-00003.safetensors").unlink()
    with pytest.raises(CheckpointError) as caught:
        load_backbone(folder)
    text = str(caught.value)
    assert text.startswith(f"The weights of '{folder}' cannot be read: ")
    assert text.endswith(" Accepted: a complete checkpoint in safetensors format. Download or copy it again.")


def test_weights_the_files_lack_are_refused_instead_of_drawn_at_random(published: Folders, tmp_path: Path) -> None:
    folder = shutil.copytree(published("blip2-opt"), tmp_path / "deeper")
    config = json.loads((folder / "config.json").read_text())
    config["text_config"]["num_hidden_layers"] = 3
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(CheckpointError) as caught:
        load_backbone(folder)
    assert str(caught.value) == (
        f"The weights of '{folder}' are incomplete: 16 tensors of the configuration are not in the files, first: "
        "language_model.model.decoder.layers.2.fc1.bias, language_model.model.decoder.layers.2.fc1.weight, "
        "language_model.model.decoder.layers.2.fc2.bias. Accepted: a complete checkpoint in safetensors format. "
        "Download or copy it again."
    )


def test_image_statistics_come_from_the_processor_file(published: Folders, tmp_path: Path) -> None:
    folder = shutil.copytree(published("blip2-opt"), tmp_path / "other")
    settings = json.loads((folder / "preprocessor_config.json").read_text())
    settings |= {"image_mean": [0.5, 0.4, 0.3], "image_std": [0.2, 0.1, 0.3]}
    (folder / "preprocessor_config.json").write_text(json.dumps(settings))
    backbone: Backbone = load_backbone(folder)
    assert (backbone.image_mean, backbone.image_std) == ((0.5, 0.4, 0.3), (0.2, 0.1, 0.3))
