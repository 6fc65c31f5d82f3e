"""A modality added to a trained model changes nothing that was there."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from crema_core.api.build import build
from crema_core.api.model import CremaModel
from crema_core.errors import BuildError
from crema_core.features.feature_cache import prepare_batch
from crema_core.fusion.base import ModalitySet
from crema_core.model.trainable import names_of, set_trainable
from tests.support.modalities import frames_spec, points_spec, touch_specs, wave_spec

FUSIONS = [
    *("self_gated", "concat", "linear", "mixture", {"name": "cross_attention", "num_heads": 3}),
    *("ungated", "token_mixture", {"name": "supporting_cross_attention", "num_heads": 3}),
]


def examples(model: CremaModel, *names: str) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(3)
    return {name: model.branch(name).modality.example(generator) for name in names}


@pytest.mark.parametrize("fusion", FUSIONS, ids=str)
def test_answers_without_the_new_modality_stay_bit_identical(t5_folder: Path, fusion: str | dict[str, object]) -> None:
    model = build([frames_spec("main"), wave_spec()], backbone=t5_folder, fusion=fusion)
    sources = examples(model, "main", "wave")
    before = model.answer("what ?", ["red", "blue"], **sources).scores
    state = model.adapter_state_dict()
    model.add_modality(points_spec())
    assert model.answer("what ?", ["red", "blue"], **sources).scores == before
    after = model.adapter_state_dict()
    assert state.keys() < after.keys()
    assert all(torch.equal(value, after[key]) for key, value in state.items())


def test_training_the_new_modality_leaves_the_others_bit_identical(t5_folder: Path) -> None:
    model = build([frames_spec("main"), wave_spec()], backbone=t5_folder)
    sources = examples(model, "main", "wave")
    before_scores = model.answer("what ?", ["red", "blue"], **sources).scores
    before = model.adapter_state_dict()
    model.add_modality(points_spec())
    own = [*model.adapter_parameters("points").values(), *model.fusion_parameters(["points"]).values()]
    set_trainable(model, names_of(model, own))
    optimizer = torch.optim.AdamW(own, lr=0.005)
    batches = prepare_batch(model, [examples(model, "main", "wave", "points")])
    losses = []
    for _ in range(8):
        tokens = {name: model.modality_tokens(name, feature) for name, feature in model.encode(batches).items()}
        loss = model.loss(tokens, ["what ?"], ["green"])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0]
    after = model.adapter_state_dict()
    assert all(torch.equal(value, after[key]) for key, value in before.items())
    assert model.answer("what ?", ["red", "blue"], **sources).scores == before_scores


@pytest.mark.parametrize("fusion", FUSIONS, ids=str)
def test_a_model_of_one_modality_trains_no_fusion_until_another_modality_is_added(
    t5_folder: Path, fusion: str | dict[str, object]
) -> None:
    model = build([frames_spec("main")], backbone=t5_folder, fusion=fusion)
    assert model.fusion_parameters() == {}
    assert {key.split(".")[0] for key in model.trainable_parameters()} == {"modalities"}
    before = model.answer("what ?", ["red", "blue"], **examples(model, "main")).scores
    model.add_modality(wave_spec())
    assert model.answer("what ?", ["red", "blue"], **examples(model, "main")).scores == before
    whole = build([frames_spec("main"), wave_spec()], backbone=t5_folder, fusion=fusion)
    assert model.fusion_parameters().keys() == whole.fusion_parameters().keys()
    for parameter in model.trainable_parameters().values():
        parameter.requires_grad_(True)
    features = model.encode(prepare_batch(model, [examples(model, "main", "wave")]))
    model.loss(model.tokens(features, ["what ?"]), ["what ?"], ["green"]).backward()
    assert all(parameter.grad is not None for parameter in model.fusion_parameters(["wave"]).values())


def test_a_modality_starts_the_same_whatever_else_is_built(t5_folder: Path) -> None:
    alone = build([wave_spec()], backbone=t5_folder)
    among = build([frames_spec("main"), points_spec(), wave_spec()], backbone=t5_folder)
    for key, value in alone.adapter_parameters("wave").items():
        assert torch.equal(value, among.adapter_parameters("wave")[key])


@pytest.mark.parametrize("fusion", ["self_gated", "linear", "ungated"])
def test_a_new_modality_says_nothing_until_it_is_trained(t5_folder: Path, fusion: str) -> None:
    model = build([frames_spec("main"), wave_spec()], backbone=t5_folder, fusion=fusion)
    model.add_modality(points_spec())
    question = ["what ?"]

    def prompt(*names: str) -> torch.Tensor:
        features = model.encode(prepare_batch(model, [examples(model, "main", "wave", "points")]))
        tokens = {name: own for name, own in model.tokens(features, question).items() if name in names}
        return model.prompt(tokens, question).embeds

    assert torch.equal(prompt("main", "wave", "points"), prompt("main", "wave"))
    (block,) = model.fusion_parameters(["points"]).values()
    with torch.no_grad():
        block.fill_(0.1)
    assert not torch.allclose(prompt("main", "wave", "points"), prompt("main", "wave"))


@pytest.mark.parametrize("fusion", FUSIONS, ids=str)
def test_a_modality_whose_tokens_start_as_zeros_says_nothing_and_is_trained_all_the_same(
    t5_folder: Path, fusion: str | dict[str, object]
) -> None:
    model = build([frames_spec("main"), wave_spec()], backbone=t5_folder, fusion=fusion)
    model.add_modality(points_spec(mmqa=points_spec().mmqa.model_copy(update={"output_start": "zero"})))
    assert model.config["modalities"][-1]["mmqa"]["output_start"] == "zero"
    question, answer = ["what ?"], ["green"]
    features = model.encode(prepare_batch(model, [examples(model, "main", "wave", "points")]))
    if type(model.fusion).starts_at_zero:
        tokens = model.tokens(features, question)
        without = {name: own for name, own in tokens.items() if name != "points"}
        assert torch.equal(model.prompt(tokens, question).embeds, model.prompt(without, question).embeds)
    own = model.adapter_parameters("points") | model.fusion_parameters(["points"])
    set_trainable(model, names_of(model, own.values()))
    optimizer = torch.optim.SGD(own.values(), lr=1e-2)
    moved: set[str] = set()
    for _ in range(3):
        model.loss(model.tokens(features, question), question, answer).backward()
        moved |= {key for key, value in own.items() if value.grad is not None and bool(value.grad.any())}
        optimizer.step()
        optimizer.zero_grad()
    assert moved == own.keys()


@pytest.mark.parametrize("fusion", ["self_gated", "ungated"])
def test_the_first_supporting_modality_that_starts_as_zeros_is_fused_to_zeros(t5_folder: Path, fusion: str) -> None:
    model = build([frames_spec("main")], backbone=t5_folder, fusion=fusion)
    model.add_modality(wave_spec(mmqa=wave_spec().mmqa.model_copy(update={"output_start": "zero"})))
    features = model.encode(prepare_batch(model, [examples(model, "main", "wave")]))
    sets = ModalitySet(
        model.tokens(features, ["what ?"]),
        major="main",
        num_samples=1,
        prefixes=dict.fromkeys(model.names, ""),
        per_frame=frozenset(["main"]),
    )
    major, fused = model.fusion(sets)
    assert bool(major.values.any())
    assert not bool(fused.values.any())
    assert bool(model.fusion.block_parameters(["wave"])["blocks.wave.weight"].any()), "gradients pass the block"


def test_the_expert_of_a_new_modality_starts_at_zero(t5_folder: Path) -> None:
    model = build([frames_spec("main"), wave_spec()], backbone=t5_folder, fusion="token_mixture")
    model.add_modality(points_spec())
    found = model.fusion_parameters(["points"])
    expert = [float(value.detach().abs().max()) for key, value in found.items() if ".expert." in key]
    assert expert == [0.0, 0.0]
    assert all(float(v.detach().abs().max()) > 0 for k, v in model.fusion_parameters(["wave"]).items() if "weight" in k)


@pytest.mark.parametrize("training", [False, True])
def test_a_modality_is_added_in_the_mode_the_model_is_in(t5_folder: Path, training: bool) -> None:
    model = build([frames_spec("main")], backbone=t5_folder)
    model.train(training)
    model.add_modality(wave_spec(mmqa=wave_spec().mmqa.model_copy(update={"lora_dropout": 0.5})))
    modes = {module.training for name, module in model.named_modules() if "lora_dropout" in name and "m_wave" in name}
    assert modes == {training}
    assert model.branch("wave").adapter.training == training
    assert not model.backbone.language_model.training


def test_a_modality_whose_name_begins_with_anothers_is_added_beside_it(t5_folder: Path) -> None:
    touch, left = touch_specs()
    model = build([frames_spec("main"), touch], backbone=t5_folder)
    before = model.adapter_state_dict()
    sources = examples(model, "main", "touch")
    scores = model.answer("what ?", ["red", "blue"], **sources).scores
    model.add_modality(left)
    after = model.adapter_state_dict()
    assert all(torch.equal(value, after[key]) for key, value in before.items())
    new = after.keys() - before.keys()
    assert {key.split(".")[1] for key in new if key.startswith("modalities.")} == {"touch_left"}
    assert {key.split(".")[2] for key in new if key.startswith("fusion.")} == {"touch_left"}
    assert model.answer("what ?", ["red", "blue"], **sources).scores == scores
    own = {name: set(map(id, model.adapter_parameters(name).values())) for name in ("touch", "touch_left")}
    assert not own["touch"] & own["touch_left"]


def test_adding_a_modality_twice_is_refused(t5_folder: Path) -> None:
    model = build([wave_spec()], backbone=t5_folder)
    with pytest.raises(BuildError) as caught:
        model.add_modality(wave_spec())
    assert str(caught.value) == (
        "The model already has a modality 'wave'. Each modality is built once. Train it, or build a new model."
    )
