"""A sense added to a trained model changes nothing that was there."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from crema_core.api.build import build
from crema_core.api.model import CremaModel
from crema_core.errors import BuildError
from crema_core.features.prepare import prepare_batch
from crema_core.model.trainable import names_of, set_trainable
from tests.support.senses import frames_spec, points_spec, wave_spec

FUSIONS = ["self_gated", "linear", "concat", "mixture", {"name": "cross_attention", "num_heads": 3}]


def examples(model: CremaModel, *names: str) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(3)
    return {name: model.sense(name).modality.example(generator) for name in names}


@pytest.mark.parametrize("fusion", FUSIONS, ids=str)
def test_answers_without_the_new_sense_stay_bit_identical(t5_folder: Path, fusion: str | dict[str, object]) -> None:
    model = build([frames_spec("main"), wave_spec()], backbone=t5_folder, fusion=fusion)
    sources = examples(model, "main", "wave")
    before = model.answer("what ?", ["red", "blue"], **sources).scores
    state = model.adapter_state_dict()
    model.add_modality(points_spec())
    assert model.answer("what ?", ["red", "blue"], **sources).scores == before
    after = model.adapter_state_dict()
    assert state.keys() < after.keys()
    assert all(torch.equal(value, after[key]) for key, value in state.items())


def test_training_the_new_sense_leaves_the_others_bit_identical(t5_folder: Path) -> None:
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
        tokens = {name: model.sense_tokens(name, feature) for name, feature in model.encode(batches).items()}
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
def test_a_model_of_one_sense_trains_no_fusion_until_another_sense_is_added(
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


def test_a_sense_starts_the_same_whatever_else_is_built(t5_folder: Path) -> None:
    alone = build([wave_spec()], backbone=t5_folder)
    among = build([frames_spec("main"), points_spec(), wave_spec()], backbone=t5_folder)
    for key, value in alone.adapter_parameters("wave").items():
        assert torch.equal(value, among.adapter_parameters("wave")[key])


def test_adding_a_sense_twice_is_refused(t5_folder: Path) -> None:
    model = build([wave_spec()], backbone=t5_folder)
    with pytest.raises(BuildError) as caught:
        model.add_modality(wave_spec())
    assert str(caught.value) == (
        "The model already has a sense 'wave'. Each sense is built once. Train it, or build a new model."
    )
