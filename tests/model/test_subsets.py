"""Any subset of modalities, in any order and company, gives the same answer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from crema_core.api.build import build
from crema_core.api.model import CremaModel
from crema_core.features.feature_cache import prepare_batch
from tests.support.modalities import four_modalities
from tests.support.numeric import MODEL_ULPS, assert_close_to_scale

NAMES = ("main", "other", "wave", "points")
FUSIONS: list[Any] = ["self_gated", "concat", "linear", "mixture", {"name": "cross_attention", "num_heads": 3}]
VARIANTS: list[Any] = ["ungated", "token_mixture", {"name": "supporting_cross_attention", "num_heads": 3}]
CHOICES = ["red", "blue", "green"]


@pytest.fixture(scope="module", params=["t5", pytest.param("opt", marks=pytest.mark.slow)])
def models(request: pytest.FixtureRequest, t5_folder: Path, opt_folder: Path) -> dict[str, CremaModel]:
    folder = t5_folder if request.param == "t5" else opt_folder
    return {str(fusion): build(four_modalities(), backbone=folder, fusion=fusion) for fusion in [*FUSIONS, *VARIANTS]}


def sample(model: CremaModel, names: tuple[str, ...], seed: int) -> dict[str, Any]:
    generator = torch.Generator().manual_seed(seed)
    return {name: model.branch(name).modality.example(generator) for name in names}


@pytest.mark.slow
@settings(max_examples=8, deadline=None)
@given(
    subsets=st.lists(st.lists(st.sampled_from(NAMES), min_size=1, unique=True), min_size=2, max_size=5),
    seed=st.integers(0, 1000),
)
@pytest.mark.parametrize(
    "fusion",
    [*map(str, FUSIONS), *(pytest.param(str(fusion), marks=pytest.mark.slow) for fusion in VARIANTS)],
)
def test_scores_do_not_depend_on_the_other_samples_of_the_batch(
    models: dict[str, CremaModel], fusion: str, subsets: list[list[str]], seed: int
) -> None:
    model = models[fusion]
    items = [
        {"question": "what color is a ?", "choices": CHOICES, **sample(model, tuple(names), seed + index)}
        for index, names in enumerate(subsets)
    ]
    together = [list(answer.scores.values()) for answer in model.answer_many(items)]
    alone = [list(model.answer(**item).scores.values()) for item in items]
    assert_close_to_scale(torch.tensor(together), torch.tensor(alone), ulps=MODEL_ULPS)


@pytest.mark.slow
def test_a_longer_neighbour_does_not_change_an_answer(model: CremaModel) -> None:
    short, long = torch.randn(2, 3, 16, 16), torch.randn(5, 3, 16, 16)
    wave = torch.randn(4, 3, 10)
    item = {"question": "what color ?", "choices": CHOICES, "main": short, "wave": wave}
    alone = model.answer(**item).scores
    beside = model.answer_many([item, {**item, "main": long}])[0].scores
    assert_close_to_scale(torch.tensor([*beside.values()]), torch.tensor([*alone.values()]), ulps=MODEL_ULPS)


def test_the_answer_says_which_modalities_took_part_in_the_order_of_build(model: CremaModel) -> None:
    item = sample(model, ("points", "main"), 0)
    assert model.answer("what color ?", **item).used == ("main", "points")


def test_a_sample_without_any_modality_of_the_batch_still_gets_its_own_prompt(model: CremaModel) -> None:
    sources = [sample(model, ("main",), 0), sample(model, ("wave",), 1)]
    batches = prepare_batch(model, sources)
    assert {name: batch.rows.tolist() for name, batch in batches.items()} == {"main": [0], "wave": [1]}
    tokens = {name: model.modality_tokens(name, own) for name, own in model.encode(batches).items()}
    prompt = model.prompt(tokens, ["what ?", "what ?"])
    # main: 3 frames of 3 prefix words and 5 queries, question of 3; wave: one fused step of the same shape.
    assert prompt.mask.sum(1).tolist() == [3 * (3 + 5) + 3, 1 * (3 + 5) + 3]
