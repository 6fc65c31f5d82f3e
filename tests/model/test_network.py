"""The model's own parts: scores of choices, state by name, what it is asked for."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from crema_core.api.build import build
from crema_core.api.model import CremaModel
from crema_core.errors import UnknownModalityError
from crema_core.features.feature_cache import prepare_batch
from tests.support.modalities import frames_spec, touch_specs, wave_spec

CHOICES = [["red", "blue"], ["red", "blue", "green", "left"], ["right", "left", "red"]]
QUESTIONS = ["what ?", "what is the color ?", "left or right ?"]


def model_with(folder: Path, scoring: str) -> CremaModel:
    return build([wave_spec()], backbone=folder, template={"choice_scoring": scoring})


def scores_of(model: CremaModel, rows: list[int]) -> list[list[float]]:
    generator = torch.Generator().manual_seed(0)
    waves = [torch.randn(2, 3, 10, generator=generator) for _ in QUESTIONS]
    questions = [QUESTIONS[row] for row in rows]
    features = model.encode(prepare_batch(model, [{"wave": waves[row]} for row in rows]))
    prompt = model.prompt(model.tokens(features, questions), questions)
    return model.score_choices(prompt, [CHOICES[row] for row in rows])


@pytest.mark.parametrize("scoring", ["letters", "released", "likelihood"])
def test_scores_of_a_sample_do_not_depend_on_how_many_choices_the_others_have(t5_folder: Path, scoring: str) -> None:
    model = model_with(t5_folder, scoring)
    together = scores_of(model, [0, 1, 2])
    assert [len(row) for row in together] == [2, 4, 3]
    for row, own in enumerate(together):
        assert own == pytest.approx(scores_of(model, [row])[0], abs=1e-5)
        if scoring != "likelihood":
            assert torch.tensor(own).exp().sum().item() == pytest.approx(1.0, abs=1e-5)


@pytest.mark.parametrize("scoring", ["letters", "released"])
def test_letters_are_normalised_over_a_samples_own_choices(t5_folder: Path, scoring: str) -> None:
    model = model_with(t5_folder, scoring)
    few, many = scores_of(model, [0, 1])
    four = model.language.letter_scores if scoring == "letters" else model.language.released_letter_scores
    generator = torch.Generator().manual_seed(0)
    wave = torch.randn(2, 3, 10, generator=generator)
    features = model.encode(prepare_batch(model, [{"wave": wave}]))
    over_four = four(model.prompt(model.tokens(features, QUESTIONS[:1]), QUESTIONS[:1]), 4)[0]
    assert few == pytest.approx((over_four[:2] - over_four[:2].logsumexp(0)).tolist(), abs=1e-5)
    assert few != pytest.approx(over_four[:2].tolist(), abs=1e-3), "the others' share is not negligible"
    assert len(many) == 4


def test_an_unknown_modality_is_refused_with_the_nearest_name(t5_folder: Path) -> None:
    with pytest.raises(UnknownModalityError) as caught:
        model_with(t5_folder, "letters").branch("wafe")
    assert str(caught.value) == (
        "This model has no modality 'wafe'. It has: wave. Did you mean 'wave'? Add one with model.add_modality('wafe')."
    )


def test_state_is_keyed_by_modality_also_where_one_name_begins_another(t5_folder: Path) -> None:
    model = build([frames_spec("main"), *touch_specs()], backbone=t5_folder)
    state = model.adapter_state_dict()
    parts = {tuple(key.split(".")[:2]) for key in state if key.startswith("modalities.")}
    assert parts == {("modalities", "main"), ("modalities", "touch"), ("modalities", "touch_left")}
    blocks = {key for key in state if key.startswith("fusion.blocks.")}
    assert {key.split(".")[2] for key in blocks} == {"touch", "touch_left"}
    assert model.fusion_parameters(["touch"]).keys() == {
        key.removeprefix("fusion.") for key in blocks if key.split(".")[2] == "touch"
    }
    assert model.shared_parameters().keys() == {key for key in state if key.startswith("fusion.") and key not in blocks}
    assert not any(parameter.requires_grad for key, parameter in state.items())
    with torch.no_grad():
        for parameter in model.trainable_parameters().values():
            parameter.add_(1.0)
    assert all(not torch.equal(value, state[key]) for key, value in model.adapter_state_dict().items()), "copies"
    model.load_adapter_state_dict(state)
    assert all(torch.equal(value, state[key]) for key, value in model.adapter_state_dict().items())


def test_modalities_come_in_the_order_of_the_model_whatever_the_order_of_the_tokens(t5_folder: Path) -> None:
    model = build([frames_spec("main"), wave_spec()], backbone=t5_folder, fusion="concat")
    generator = torch.Generator().manual_seed(0)
    sources = {name: model.branch(name).modality.example(generator) for name in ("main", "wave")}
    tokens = model.tokens(model.encode(prepare_batch(model, [sources])), ["what ?"])
    turned = dict(reversed(tokens.items()))
    assert list(turned) != list(tokens)
    assert torch.equal(model.prompt(turned, ["what ?"]).embeds, model.prompt(tokens, ["what ?"]).embeds)
    assert model.names == ("main", "wave")
