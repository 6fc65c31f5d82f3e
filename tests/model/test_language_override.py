"""Another language model in place of the backbone's own."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from crema_core.api.build import build
from crema_core.api.load import load
from crema_core.api.model import CremaModel
from crema_core.errors import BuildError, CheckpointError
from crema_core.features.feature_cache import prepare_batch
from crema_core.model.load_backbone import load_backbone
from tests.support.checkpoints import LANGUAGES, Language, Published, save_language
from tests.support.modalities import four_modalities, frames_spec, register_modalities, wave_spec
from tests.support.numeric import MODEL_ULPS, assert_close_to_scale
from tests.support.steps import SOURCES, train_a_little

Folders = Callable[[Language], Path]
BackboneFolders = Callable[[Published], Path]
CHOICES = ["red", "blue", "green"]


@pytest.fixture(params=LANGUAGES)
def swapped(request: pytest.FixtureRequest, t5_folder: Path, languages: Folders) -> CremaModel:
    return build(four_modalities(), backbone=t5_folder, language_model=languages(request.param))


def test_it_trains_answers_and_saves_to_the_same_answers(swapped: CremaModel, tmp_path: Path) -> None:
    register_modalities()
    frozen = swapped.frozen_fingerprint()
    losses = train_a_little(swapped)
    assert losses[-1] < losses[0]
    assert swapped.frozen_fingerprint() == frozen
    swapped.save_pretrained(tmp_path / "saved")
    loaded = load(tmp_path / "saved")
    for choices in (None, CHOICES):
        assert loaded.answer("What is it?", choices, **SOURCES) == swapped.answer("What is it?", choices, **SOURCES)


def test_answers_do_not_depend_on_the_other_questions_of_a_batch(swapped: CremaModel) -> None:
    items = [
        {"question": "What is it?", **SOURCES},
        {"question": "Is the colour of the thing left or right, red or blue?", "main": SOURCES["main"][:1]},
        {"question": "What?", "points": SOURCES["points"]},
    ]
    assert [own.text for own in swapped.answer_many(items)] == [swapped.answer_many([item])[0].text for item in items]
    scored = [{**item, "choices": CHOICES} for item in items]
    for own, item in zip(swapped.answer_many(scored), scored, strict=True):
        alone = swapped.answer_many([item])[0].scores
        assert own.scores.keys() == alone.keys()
        assert_close_to_scale(torch.tensor([*own.scores.values()]), torch.tensor([*alone.values()]), ulps=MODEL_ULPS)


def test_losses_do_not_depend_on_padding(swapped: CremaModel) -> None:
    questions, answers = ["What is it?", "Is the colour of the thing left or right?"], ["red", "left or right"]
    features = swapped.encode(prepare_batch(swapped, [SOURCES, {"main": SOURCES["main"][:1]}]))
    tokens = swapped.tokens(features, questions)
    together = swapped.language.likelihood_scores(swapped.prompt(tokens, questions), [[answer] for answer in answers])
    for row, sources in enumerate([SOURCES, {"main": SOURCES["main"][:1]}]):
        own = swapped.encode(prepare_batch(swapped, [sources]))
        asked = [questions[row]]
        alone = swapped.prompt(swapped.tokens(own, asked), asked)
        loss = swapped.language.loss(alone, [answers[row]]).detach()
        assert_close_to_scale(torch.tensor(together[row][0]), -loss, ulps=MODEL_ULPS)


def test_answer_letters_are_read_from_its_tokenizer(swapped: CremaModel) -> None:
    common, letters = swapped.language.letter_ids(3)
    names = swapped.backbone.tokenizer.convert_ids_to_tokens(letters)
    assert [str(name).lstrip("Ġ▁") for name in names] == ["A", "B", "C"]
    whole = swapped.backbone.tokenizer.decode([*common, letters[1]])
    assert whole.strip() == "Option B"
    scores = swapped.answer("What is it?", CHOICES, **SOURCES).scores
    assert sum(torch.tensor(list(scores.values())).exp().tolist()) == pytest.approx(1)


def test_every_modality_starts_with_a_fresh_projection_into_it(t5_folder: Path, tmp_path: Path) -> None:
    # The same width as the backbone's own language model, so its projection would fit by shape.
    other = save_language(tmp_path / "t5", "t5")
    own = build([wave_spec()], backbone=t5_folder)
    swapped = build([wave_spec()], backbone=t5_folder, language_model=other)
    projection = own.backbone.language_projection
    assert projection is not None
    assert torch.equal(own.branch("wave").adapter.output.weight, projection.weight)
    assert swapped.backbone.language_projection is None
    assert swapped.branch("wave").adapter.output.weight.shape == projection.weight.shape
    assert not torch.allclose(swapped.branch("wave").adapter.output.weight, projection.weight)
    assert torch.equal(swapped.branch("wave").adapter.queries, own.branch("wave").adapter.queries)


def test_vision_and_qformer_are_the_backbone_s_and_its_language_model_is_not_loaded(
    published: BackboneFolders, languages: Folders, tmp_path: Path
) -> None:
    whole = load_backbone(published("instructblip-vicuna"))
    partial = shutil.copytree(published("instructblip-vicuna"), tmp_path / "partial")
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (partial / name).unlink()
    swapped = load_backbone(partial, language_model=languages("qwen3"))
    for part in ("vision_model", "qformer"):
        other = getattr(swapped, part).state_dict()
        for key, value in getattr(whole, part).state_dict().items():
            assert torch.equal(other[key], value), key
    assert torch.equal(swapped.query_tokens, whole.query_tokens)
    assert swapped.language_model.config.model_type == "qwen3"


def test_decoding_settings_of_the_checkpoint_do_not_change_answers(languages: Folders, t5_folder: Path) -> None:
    model = build([wave_spec()], backbone=t5_folder, language_model=languages("qwen2"))
    settings = model.backbone.language_model.generation_config
    assert not settings.do_sample
    assert settings.repetition_penalty in (None, 1.0)
    assert settings.eos_token_id == [0, 2]


def test_the_model_config_names_the_language_model_and_what_it_is(
    t5_folder: Path, languages: Folders, tmp_path: Path
) -> None:
    register_modalities()
    model = build([wave_spec()], backbone=t5_folder, language_model=languages("llama"))
    model.save_pretrained(tmp_path / "saved")
    config = json.loads((tmp_path / "saved" / "crema.json").read_text())
    assert config["language_model"] == {"source": str(languages("llama")), "revision": None}
    assert config["language_identity"] == model.backbone.language_identity()
    moved = shutil.copytree(languages("llama"), tmp_path / "moved")
    assert load(tmp_path / "saved", language_model=moved).answer("What?", wave=SOURCES["wave"]) == model.answer(
        "What?", wave=SOURCES["wave"]
    )


def test_loading_with_another_language_model_is_refused(t5_folder: Path, languages: Folders, tmp_path: Path) -> None:
    register_modalities()
    build([wave_spec()], backbone=t5_folder, language_model=languages("llama")).save_pretrained(tmp_path / "saved")
    other = save_language(tmp_path / "other", "llama", seed=1)
    with pytest.raises(CheckpointError) as caught:
        load(tmp_path / "saved", language_model=other)
    assert str(caught.value) == (
        f"'{tmp_path / 'saved'}' was trained with another language model than '{other}' is now. A model fits the "
        f"language model it was trained with, '{languages('llama')}'. Pass language_model='...' with the original "
        "weights. Nothing was changed."
    )


def test_a_language_model_for_a_model_with_its_backbone_s_own_is_refused(
    t5_folder: Path, languages: Folders, tmp_path: Path
) -> None:
    register_modalities()
    build([wave_spec()], backbone=t5_folder).save_pretrained(tmp_path / "saved")
    with pytest.raises(CheckpointError) as caught:
        load(tmp_path / "saved", language_model=languages("llama"))
    assert str(caught.value) == (
        f"'{tmp_path / 'saved'}' was trained with its backbone's own language model, so "
        f"language_model='{languages('llama')}' has no place in it. Accepted: nothing but the backbone. Leave "
        "language_model out. Nothing was changed."
    )


def test_an_adapter_for_another_language_model_is_refused(t5_folder: Path, languages: Folders, tmp_path: Path) -> None:
    register_modalities()
    same_width = save_language(tmp_path / "t5", "t5")
    build([wave_spec()], backbone=t5_folder, language_model=same_width).save_adapter("wave", tmp_path / "adapter")
    again = build([wave_spec()], backbone=t5_folder, language_model=same_width)
    again.load_adapter(tmp_path / "adapter")
    other = save_language(tmp_path / "other", "t5", seed=1)
    model = build([wave_spec()], backbone=t5_folder, language_model=other)
    with pytest.raises(CheckpointError) as caught:
        model.load_adapter(tmp_path / "adapter")
    assert str(caught.value) == (
        f"Cannot load 'wave' into this model: it was trained for another language model ('{same_width}') than this "
        f"model's ('{other}'). An adapter fits the language model it was trained for. Build the model with "
        f"language_model='{same_width}'. Nothing was changed."
    )


def test_a_place_without_language_model_is_refused(t5_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError) as caught:
        build([wave_spec()], backbone=t5_folder, language_model=tmp_path)
    text = str(caught.value)
    assert text.startswith(f"No language model was found at '{tmp_path}': ")
    assert text.endswith(
        " Accepted: a folder or hub id of a causal or encoder-decoder language model of transformers. Try "
        "language_model='mistralai/Mistral-7B-v0.1' where the hub is reachable."
    )


def test_another_kind_of_model_is_refused(t5_folder: Path) -> None:
    with pytest.raises(CheckpointError) as caught:
        build([wave_spec()], backbone=t5_folder, language_model=t5_folder)
    assert str(caught.value) == (
        f"'{t5_folder}' is a 'blip-2' model, which transformers does not list as a language model. Accepted: causal "
        "(Mistral, Llama, Qwen and others) and encoder-decoder (T5 and others) ones. Try "
        "language_model='mistralai/Mistral-7B-v0.1' where the hub is reachable."
    )


def test_a_language_model_beside_a_backbone_object_is_refused(t5_folder: Path, languages: Folders) -> None:
    with pytest.raises(BuildError) as caught:
        build([wave_spec()], backbone=load_backbone(t5_folder), language_model=languages("llama"))
    assert str(caught.value) == (
        f"language_model='{languages('llama')}' comes with a backbone object, which has its language model already. "
        "Accepted: a folder or hub id as backbone. Pass load_backbone(..., language_model=...) instead."
    )


def test_it_is_described_with_its_name(swapped: CremaModel) -> None:
    description = swapped.describe()
    assert f"language model {swapped.backbone.settings.language_model}, fusion" in str(description)
    rows = {row.name: row for row in description.components}
    weights = {id(parameter): parameter.numel() for parameter in swapped.backbone.language_model.parameters()}
    assert rows["language model"].frozen == sum(weights.values())
    assert rows["language model"].gflops > 0


@pytest.mark.slow
def test_a_configuration_alone_is_enough_to_count_on_a_shape(languages: Folders, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text((languages("mistral") / "config.json").read_text())
    model = build([frames_spec("main")], backbone="blip2-flan-t5-xl", language_model=tmp_path)
    assert model.describe().language_model == str(tmp_path)
    assert model.branch("main").adapter.output.weight.shape == (32, 768)
