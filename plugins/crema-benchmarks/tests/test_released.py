"""Released checkpoints: taking up what fits, refusing what does not, and the way back."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

from crema_benchmarks.released import export_released, load_released
from crema_core.api.build import build
from crema_core.api.model import CremaModel
from crema_core.errors import CheckpointError
from tests.support.modalities import frames_spec, points_spec, wave_spec


@pytest.fixture
def pair(t5_folder: Path) -> tuple[CremaModel, CremaModel]:
    """Two models of equal build and different trained weights."""
    specs = [frames_spec("main"), wave_spec(), points_spec()]
    models = (build(specs, backbone=t5_folder), build(specs, backbone=t5_folder, seed=5))
    with torch.no_grad():
        for parameter in models[0].trainable_parameters().values():
            parameter.add_(torch.randn_like(parameter))
    return models


def test_there_and_back_again_for_every_modality(pair: tuple[CremaModel, CremaModel]) -> None:
    source, target = pair
    assert load_released(target, export_released(source)) == []
    after = target.adapter_state_dict()
    assert all(torch.equal(value, after[key]) for key, value in source.adapter_state_dict().items())


def test_frozen_and_dead_weights_are_left_aside(pair: tuple[CremaModel, CremaModel]) -> None:
    source, target = pair
    extra = {
        "main_gradsel_embed": torch.zeros(1, 7),
        "t5_model.encoder.embed_tokens.weight": torch.zeros(2, 2),
        "Qformer.bert.embeddings.position_ids": torch.zeros(1, 5, dtype=torch.int64),
        "Qformer.bert.encoder.layer.0.attention.self.query.w.weight": torch.zeros(2, 2),
    }
    assert load_released(target, export_released(source) | extra) == list(extra)


def test_everything_that_does_not_fit_is_listed_and_nothing_changes(pair: tuple[CremaModel, CremaModel]) -> None:
    source, target = pair
    before = target.adapter_state_dict()
    state = export_released(source)
    del state["query_tokens_wave"]
    state["t5_proj_points.bias"] = torch.zeros(3)
    state["Qformer.bert.encoder.layer.0.attention.self.query.w_a_sonar.weight"] = torch.zeros(2, 12)
    with pytest.raises(CheckpointError) as caught:
        load_released(target, state)
    assert str(caught.value) == (
        "The released checkpoint does not fit this model, 3 keys differ:\n"
        "  missing: query_tokens_wave\n"
        "  unknown: Qformer.bert.encoder.layer.0.attention.self.query.w_a_sonar.weight\n"
        "  shape: t5_proj_points.bias is (3,), the model's is (24,)\n"
        "The model has the modalities main, wave, points in this order. Build it with the checkpoint's modalities, "
        "sizes and fusion. Nothing was changed."
    )
    assert all(torch.equal(value, before[key]) for key, value in target.adapter_state_dict().items())


def test_a_fusion_of_another_number_of_modalities_is_refused(pair: tuple[CremaModel, CremaModel]) -> None:
    source, target = pair
    state = export_released(source)
    state["fusion.0.weight"] = torch.zeros(24, 3 * 24)
    with pytest.raises(CheckpointError, match=r"shape: fusion\.blocks\.wave\.weight is \(24, 36\)"):
        load_released(target, state)


def test_an_unknown_key_of_a_modality_the_model_lacks_is_not_dropped(pair: tuple[CremaModel, CremaModel]) -> None:
    source, target = pair
    state: dict[str, Tensor] = export_released(source) | {"ln_sonar.weight": torch.ones(3)}
    with pytest.raises(CheckpointError, match=r"unknown: ln_sonar\.weight"):
        load_released(target, state)
