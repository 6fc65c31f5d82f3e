"""An encoder that is trained with its adapter: the same numbers as a naive loop, in its own sub-steps alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from crema_core.api.build import build
from crema_core.api.load import load
from crema_core.api.model import CremaModel
from crema_core.errors import CheckpointError, ContractError, ModalityWarning, TrainingError
from crema_core.features.encode import cacheable, encode_for_training
from crema_core.train.distributed import Distributed
from crema_core.train.fit import fit
from crema_core.train.steps import Minibatch
from tests.support.numeric import double_precision
from tests.train.file_modalities import random_model, trained_modalities, write_data, write_records
from tests.train.test_steps import batches, changed, descending, largest_difference, naive_update, ready, snapshot

LETTERS = "mgp"
QUICK: dict[str, Any] = {"epochs": 2, "batch_size": 4, "lr": 1e-2, "early_exit": None}


@pytest.fixture
def new_trained(t5_folder: Path) -> Any:
    return lambda **options: random_model(t5_folder, modalities=trained_modalities(**options))


def records_of(folder: Path, num: int = 8) -> Any:
    from crema_core.data.data_file import read_data_file

    return read_data_file(write_data(folder, num, modalities=LETTERS), modalities=("main", "gait", "points"))


def minibatch(model: CremaModel, batch: Any) -> Minibatch:
    return Minibatch(batch, encode_for_training(model, None, batch))


def encoder(model: CremaModel) -> dict[str, Tensor]:
    return {key: own.detach().clone() for key, own in model.branch("gait").encoder_parameters().items()}


def same(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return all(torch.equal(own, other[key]) for key, own in one.items())


@pytest.mark.parametrize("settings", [{}, {"micro_batch_size": 2}, {"retained_graphs": 0}], ids=str)
def test_updates_equal_the_naive_loop(
    settings: dict[str, Any], new_trained: Any, distributed: Distributed, tmp_path: Path
) -> None:
    records = records_of(tmp_path / "data")
    with double_precision():
        ours, naive, start = (new_trained().double() for _ in range(3))
        fast, slow = (
            descending(own, lr=0.01) for own in (ready(ours, distributed, **settings), ready(naive, distributed))
        )
        for batch in batches(ours, records, 4, 4):
            fast.sequential([minibatch(ours, batch)], ours.names)
            naive_update(slow, batch, naive.names)
        assert not same(encoder(start), encoder(ours))
        assert largest_difference(start, ours) > 1e-4
        assert largest_difference(ours, naive) < 1e-12


def test_a_joint_update_moves_the_encoder_by_its_gradient(
    new_trained: Any, distributed: Distributed, tmp_path: Path
) -> None:
    (batch,) = batches(new_trained(), records_of(tmp_path / "data"), 4, 1)
    with double_precision():
        ours, alone = (new_trained().double() for _ in range(2))
        descending(ready(ours, distributed), lr=0.01).joint([minibatch(ours, batch)], ours.names)
        slow = descending(ready(alone, distributed), lr=0.01)
        alone(batch).backward()
        slow.optimizer.step()
        assert largest_difference(ours, alone) < 1e-12


def test_the_encoder_moves_in_its_modalitys_sub_step_alone(
    new_trained: Any, distributed: Distributed, tmp_path: Path
) -> None:
    model = new_trained()
    stepper = ready(model, distributed)
    (batch,) = batches(model, records_of(tmp_path / "data"), 4, 1)
    own = {f"modalities.gait.modality.{key.removeprefix('encoder.')}" for key in encoder(model)}
    for name in model.names:
        before = snapshot(model)
        stepper.sequential([minibatch(model, batch)], [name])
        assert (own <= changed(model, before)) == (name == "gait")
        assert bool(own & changed(model, before)) == (name == "gait")


def test_it_is_in_train_mode_only_while_it_is_trained(
    new_trained: Any, distributed: Distributed, tmp_path: Path
) -> None:
    model = new_trained(dropout=0.5)
    net = model.branch("gait").modality.net
    ready(model, distributed)
    assert net.training
    model.eval()
    assert not net.training
    ready(model, distributed, modalities=("main", "points"))
    assert not net.training


def test_training_other_modalities_leaves_it_alone(new_trained: Any, tmp_path: Path) -> None:
    model = new_trained(dropout=0.5)
    before = encoder(model)
    fit(
        model, write_data(tmp_path / "data", 8, modalities=LETTERS), out=tmp_path / "run", modalities=("main",), **QUICK
    )
    assert same(before, encoder(model))


def test_a_run_that_stopped_continues_with_the_same_numbers(new_trained: Any, tmp_path: Path) -> None:
    data = write_data(tmp_path / "data", 8, modalities=LETTERS)
    whole, halves = new_trained(dropout=0.2), new_trained(dropout=0.2)
    fit(whole, data, out=tmp_path / "whole", **QUICK)
    fit(halves, data, out=tmp_path / "halves", **{**QUICK, "epochs": 1})
    again = new_trained(dropout=0.2)
    fit(again, data, out=tmp_path / "halves", resume=True, **QUICK)
    assert largest_difference(whole, again) == 0
    assert not same(encoder(whole), encoder(new_trained()))


def test_its_features_are_never_kept(new_trained: Any, tmp_path: Path) -> None:
    model, data = new_trained(), write_data(tmp_path / "data", 8, modalities=LETTERS)
    cached = new_trained()
    assert cacheable(model, model.names) == ("main", "points")
    fit(model, data, out=tmp_path / "run", **QUICK)
    fit(cached, data, out=tmp_path / "cached", cache="memory", **QUICK)
    assert largest_difference(model, cached) < 1e-6


def test_it_is_saved_loaded_counted_and_shared(new_trained: Any, tmp_path: Path, t5_folder: Path) -> None:
    model = new_trained()
    row = next(own for own in model.describe().components if own.name == "gait")
    assert row.trainable == sum(own.numel() for own in model.adapter_parameters("gait").values())
    assert row.frozen == 0
    model.save_pretrained(tmp_path / "model")
    with without_warnings():
        assert same(encoder(model), encoder(load(tmp_path / "model")))
    model.save_adapter("gait", tmp_path / "gait")
    other = build(trained_modalities()[:1], backbone=t5_folder)
    with without_warnings():
        other.load_adapter(tmp_path / "gait")
    assert same(encoder(model), encoder(other))
