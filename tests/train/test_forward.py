"""`model(batch)` is the loss: an ordinary module for torch."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from crema_core.api.model import CremaModel
from crema_core.data.dataset import Key, ModalityDataset, TrainBatch, load_batches
from crema_core.errors import OptionsError
from crema_core.features.encode import encode_batch
from crema_core.features.feature_cache import FeatureCache
from crema_core.model.trainable import names_of, set_trainable
from tests.train.conftest import MakeModel
from tests.train.file_modalities import ANSWERS, write_records


def one_batch(model: CremaModel, folder: Path, *, cached: frozenset[str] = frozenset()) -> TrainBatch:
    records = [
        replace(record, choices=ANSWERS) if index % 2 else record
        for index, record in enumerate(write_records(folder, 5))
    ]
    modalities = {name: model.branch(name).modality for name in model.names}
    dataset = ModalityDataset(records, modalities, major=model.major, cached=cached)
    return next(iter(load_batches(dataset, [[Key(0, index) for index in range(5)]])))


def test_it_is_the_loss_of_the_parts_called_by_hand(new_model: MakeModel, tmp_path: Path) -> None:
    model = new_model()
    batch = one_batch(model, tmp_path / "data")
    assert any(len(rows) < 5 for rows in batch.present.values())  # some samples lack a modality
    questions = [model.template.render(record.question, record.choices) for record in batch.records]
    answers = [model.template.target(record.answer, record.choices) for record in batch.records]
    assert answers[1].startswith("Option ")
    by_hand = model.loss(model.tokens(model.encode(batch.modalities), questions), questions, answers)
    loss = model(batch)
    assert loss.shape == ()
    assert torch.equal(loss, by_hand)


def test_gradients_reach_everything_trainable_and_nothing_else(new_model: MakeModel, tmp_path: Path) -> None:
    model = new_model()
    trainable = model.trainable_parameters()
    set_trainable(model, names_of(model, trainable.values()))
    model.train()
    model(one_batch(model, tmp_path / "data")).backward()
    own = {id(parameter) for parameter in trainable.values()}
    with_gradient = {id(one) for one in model.parameters() if one.grad is not None}
    assert with_gradient == own
    assert all(bool(one.grad.abs().sum() > 0) for one in trainable.values() if one.grad is not None)


def test_a_few_steps_of_an_ordinary_loop_lower_the_loss(new_model: MakeModel, tmp_path: Path) -> None:
    model = new_model()
    parameters = list(model.trainable_parameters().values())
    set_trainable(model, names_of(model, parameters))
    optimizer = torch.optim.AdamW(parameters, lr=0.01)
    batch, losses = one_batch(model, tmp_path / "data"), []
    for _ in range(4):
        loss = model(batch)
        losses.append(loss.item())
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    assert losses[-1] < losses[0]


def test_features_of_a_cache_take_the_place_of_encoders(new_model: MakeModel, tmp_path: Path) -> None:
    model = new_model()
    whole = one_batch(model, tmp_path / "data")
    batch = one_batch(model, tmp_path / "data", cached=frozenset(model.names))
    assert batch.modalities == {}
    cache = FeatureCache(model)
    for name, prepared in model.encode(whole.modalities).items():
        sources = [whole.records[row].sources[name] for row in whole.present[name].tolist()]
        cache.put(name, sources, prepared.features)
    assert torch.equal(model(batch, features=encode_batch(model, cache, batch)), model(whole))
    with pytest.raises(OptionsError) as caught:
        model(batch)
    assert str(caught.value) == (
        "The batch has main, other, wave, points in some samples, neither prepared nor as features. Accepted: every "
        "modality of batch.present, in batch.modalities or in features. Pass "
        "model(batch, features=encode_batch(model, cache, batch)) where a cache holds them."
    )
