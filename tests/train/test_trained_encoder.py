"""An encoder that is trained with its adapter: the same numbers as a naive loop, in its own sub-steps alone."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor, nn

from crema_core.api.build import build
from crema_core.api.load import load
from crema_core.api.model import CremaModel
from crema_core.data.data_file import read_data_file
from crema_core.errors import CheckpointError, ContractError, ModalityWarning, TrainingError
from crema_core.features.encode import cacheable, encode_for_training
from crema_core.modality import Batch, Features
from crema_core.plugins import registry
from crema_core.saving.bundle import init_from
from crema_core.train.distributed import Distributed
from crema_core.train.fit import fit
from crema_core.train.steps import Minibatch
from crema_core.train.trainer import TrainingInterrupted
from tests.support.modalities import frames_spec
from tests.support.numeric import double_precision
from tests.train.file_modalities import GaitFiles, random_model, trained_modalities, write_data
from tests.train.test_fit import interrupt_at
from tests.train.test_steps import batches, changed, descending, largest_difference, naive_update, ready, snapshot

LETTERS = "mgp"
QUICK: dict[str, Any] = {"epochs": 2, "batch_size": 4, "lr": 1e-2, "early_exit": None}


@pytest.fixture
def new_trained(t5_folder: Path) -> Any:
    return lambda **options: random_model(t5_folder, modalities=trained_modalities(**options))


def records_of(folder: Path, num: int = 8) -> Any:
    return read_data_file(write_data(folder, num, modalities=LETTERS), modalities=("main", "gait", "points"))


def minibatch(model: CremaModel, batch: Any) -> Minibatch:
    return Minibatch(batch, encode_for_training(model, None, batch))


def encoder(model: CremaModel) -> dict[str, Tensor]:
    return {key: own.detach().clone() for key, own in model.branch("gait").encoder_parameters().items()}


def same(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return all(torch.equal(own, other[key]) for key, own in one.items())


def other_code(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the encoder compute something else with the same weights, as after an upgrade of its package."""
    encode = GaitFiles.encode

    def twice(self: GaitFiles, batch: Batch) -> Features:
        features = encode(self, batch)
        return features._replace(values=features.values * 2)

    monkeypatch.setattr(GaitFiles, "encode", twice)


@contextmanager
def registered() -> Iterator[None]:
    with registry.temporary_registrations():
        for own in trained_modalities():
            registry.register(own["name"] if isinstance(own, dict) else own)
        yield


@contextmanager
def no_warnings() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("error", ModalityWarning)
        yield


@pytest.mark.slow
@pytest.mark.parametrize(
    "settings",
    [
        pytest.param({}, marks=pytest.mark.slow),
        {"micro_batch_size": 2},
        pytest.param({"retained_graphs": 0}, marks=pytest.mark.slow),
    ],
    ids=str,
)
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


@pytest.mark.slow
def test_a_run_that_stopped_continues_with_the_same_numbers(new_trained: Any, tmp_path: Path) -> None:
    data, settings = write_data(tmp_path / "data", 8, modalities=LETTERS), {**QUICK, "checkpoint_every": 1}
    whole, again = new_trained(dropout=0.2), new_trained(dropout=0.2)
    fit(whole, data, out=tmp_path / "whole", **settings)
    with pytest.raises(TrainingInterrupted):
        fit(new_trained(dropout=0.2), data, out=tmp_path / "halves", hooks=interrupt_at(3), **settings)
    with no_warnings():
        fit(again, data, out=tmp_path / "halves", resume=True, **settings)
    assert largest_difference(whole, again) == 0
    assert not same(encoder(whole), encoder(new_trained()))


@pytest.mark.slow
def test_resuming_compares_what_the_trained_encoder_made(
    new_trained: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = write_data(tmp_path / "data", 8, modalities=LETTERS)
    with pytest.raises(TrainingInterrupted):
        fit(new_trained(), data, out=tmp_path / "run", hooks=interrupt_at(3), **QUICK)
    other_code(monkeypatch)
    with pytest.warns(ModalityWarning, match="features of 'gait' differ by"):
        fit(new_trained(), data, out=tmp_path / "run", resume=True, **QUICK)


@pytest.mark.slow
def test_its_features_are_never_kept(new_trained: Any, tmp_path: Path) -> None:
    model, data = new_trained(), write_data(tmp_path / "data", 8, modalities=LETTERS)
    cached = new_trained()
    assert cacheable(model, model.names) == ("main", "points")
    fit(model, data, out=tmp_path / "run", **QUICK)
    fit(cached, data, out=tmp_path / "cached", cache="memory", **QUICK)
    assert largest_difference(model, cached) < 1e-6


@pytest.mark.slow
def test_it_is_saved_loaded_counted_and_shared(new_trained: Any, tmp_path: Path, t5_folder: Path) -> None:
    model = new_trained()
    row = next(own for own in model.describe().components if own.name == "gait")
    assert row.trainable == sum(own.numel() for own in model.adapter_parameters("gait").values())
    assert row.frozen == 0
    model.save_pretrained(tmp_path / "model")
    model.save_adapter("gait", tmp_path / "gait")
    with registered(), no_warnings():
        assert same(encoder(model), encoder(load(tmp_path / "model")))
        other = build(trained_modalities()[:1], backbone=t5_folder)
        other.load_adapter(tmp_path / "gait")
    assert same(encoder(model), encoder(other))


def test_loading_compares_features_of_the_saved_encoder_not_of_a_new_one(
    new_trained: Any, tmp_path: Path, t5_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = new_trained()
    model.save_adapter("gait", tmp_path / "gait")
    other = build(trained_modalities(), backbone=t5_folder)
    before = encoder(other)
    other_code(monkeypatch)
    with registered(), pytest.warns(ModalityWarning, match="features of 'gait' differ by"):
        other.load_adapter(tmp_path / "gait")
    assert same(encoder(model), encoder(other))
    monkeypatch.setenv("CREMA_PLUGINS_STRICT", "1")
    other = build(trained_modalities(), backbone=t5_folder)
    with registered(), pytest.raises(CheckpointError, match="Nothing was changed"):
        other.load_adapter(tmp_path / "gait")
    assert same(before, encoder(other))


def test_a_saved_model_is_where_another_training_starts(new_trained: Any, tmp_path: Path, t5_folder: Path) -> None:
    model, fresh = new_trained(), build(trained_modalities(), backbone=t5_folder)
    model.save_pretrained(tmp_path / "model")
    with no_warnings():
        init_from(fresh, tmp_path / "model")
    assert same(encoder(model), encoder(fresh))


def test_an_option_may_freeze_it(t5_folder: Path) -> None:
    main, gait, points = trained_modalities()
    model = build([main, {**gait, "frozen": True}, points], backbone=t5_folder)
    assert model.branch("gait").encoder_parameters() == {}
    assert cacheable(model, model.names) == ("main", "gait", "points")


def test_features_without_a_gradient_are_refused(
    new_trained: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    encode = GaitFiles.encode
    monkeypatch.setattr(GaitFiles, "encode", torch.no_grad()(encode))
    with pytest.raises(ContractError, match=r"features without a gradient.*trainable=True"):
        fit(new_trained(), write_data(tmp_path / "data", 8, modalities=LETTERS), out=tmp_path / "run", **QUICK)


def test_an_encoder_that_training_ruined_is_not_the_packages_fault(new_trained: Any, tmp_path: Path) -> None:
    model = new_trained()
    with torch.no_grad():
        model.branch("gait").modality.net[0].weight.fill_(float("nan"))
    with pytest.raises(TrainingError, match="The encoder of 'gait' has 1 parameters that are not finite"):
        fit(model, write_data(tmp_path / "data", 8, modalities=LETTERS), out=tmp_path / "run", **QUICK)


@pytest.mark.parametrize(
    ("layer", "found"),
    [(nn.BatchNorm1d(10), "running statistics in net"), (nn.Linear(10, 10, dtype=torch.bfloat16), "other formats")],
    ids=["running statistics", "bf16"],
)
def test_an_encoder_whose_training_would_not_be_exact_is_refused(
    layer: nn.Module, found: str, t5_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(GaitFiles, "load_assets", lambda self, folder: setattr(self, "net", layer))
    with pytest.raises(ContractError, match=found):
        build(trained_modalities(), backbone=t5_folder)


def test_only_an_encoder_of_its_own_can_be_trained() -> None:
    with pytest.raises(ValidationError, match='Write encoder="own"'):
        frames_spec("main", trainable=True)
