"""Sources that several questions share are read and encoded once, within bounds, and give the numbers of a cache."""

from __future__ import annotations

import random
from collections import Counter
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from crema_core.api.model import CremaModel
from crema_core.data.dataset import Key, ModalityDataset, load_batches
from crema_core.features.encode import cacheable, encode_batch
from crema_core.features.window import Window, by_source
from tests.train.conftest import MakeModel
from tests.train.file_modalities import write_records

Batches = list[list[int]]


@pytest.fixture
def model(new_model: MakeModel) -> CremaModel:
    return new_model()


@pytest.fixture
def dataset(model: CremaModel, tmp_path: Path) -> ModalityDataset:
    modalities = {name: model.branch(name).modality for name in model.names}
    return ModalityDataset(write_records(tmp_path / "data", 6), modalities, major=model.major)


def keys(batches: Batches) -> list[list[Key]]:
    return [[Key(0, index) for index in batch] for batch in batches]


some_batches = st.lists(st.lists(st.integers(0, 5), min_size=1, max_size=4), min_size=1, max_size=6)


@pytest.mark.slow
@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(some_batches, st.integers(0, 3))
def test_features_are_those_that_every_sample_reads_itself(
    model: CremaModel, dataset: ModalityDataset, batches: Batches, most: int
) -> None:
    window = Window(cacheable(model, model.names), num_sources=most)
    planned = load_batches(dataset, window.plan(dataset, keys(batches)), num_workers=0)
    with torch.no_grad():
        for batch, alone in zip(planned, load_batches(dataset, keys(batches)), strict=True):
            found, expected = encode_batch(model, None, batch, window), encode_batch(model, None, alone)
            assert list(found) == list(expected)
            for name, own in expected.items():
                assert torch.equal(found[name].rows, own.rows)
                few, whole = found[name].features, own.features
                steps = own.steps
                assert torch.equal(found[name].steps[:, : steps.shape[1]], steps)
                torch.testing.assert_close(few.values[found[name].steps], whole.values[steps], atol=1e-6, rtol=1e-5)
        for name in window.names:
            assert len(window._kept[name]) <= most


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(some_batches, st.integers(0, 3))
def test_a_source_is_read_again_only_where_it_was_forgotten(
    model: CremaModel, dataset: ModalityDataset, batches: Batches, most: int
) -> None:
    name = model.major
    planned = Window(cacheable(model, model.names), num_sources=most).plan(dataset, keys(batches))
    wholly = Window(cacheable(model, model.names), num_sources=100).plan(dataset, keys(batches))
    for own in planned:
        read = Counter(key.sample for key in own if name not in key.held)
        assert all(count == 1 for count in read.values())
    read = Counter(key.sample for own in wholly for key in own if name not in key.held)
    assert read == Counter({index for batch in batches for index in batch})
    assert sum(len(key.held) for own in planned for key in own) <= sum(len(key.held) for own in wholly for key in own)


def test_what_no_later_batch_needs_is_not_kept(model: CremaModel, dataset: ModalityDataset) -> None:
    window = Window(cacheable(model, model.names), num_sources=100)
    sizes = []
    for batch in load_batches(dataset, window.plan(dataset, keys([[0, 1], [1, 2], [3]]))):
        encode_batch(model, None, batch, window)
        sizes.append(len(window._kept[model.major]))
    assert sizes == [1, 0, 0]


def test_without_room_only_a_batch_shares(model: CremaModel, dataset: ModalityDataset) -> None:
    planned = Window([model.major], num_sources=0).plan(dataset, keys([[0, 0, 1], [1, 0]]))
    assert [[model.major in key.held for key in batch] for batch in planned] == [[False, True, False], [False, False]]


def test_encoders_whose_features_may_not_be_kept_run_for_every_sample(dataset: ModalityDataset) -> None:
    planned = Window((), num_sources=8).plan(dataset, keys([[0, 0], [0]]))
    assert all(key.held == () for batch in planned for key in batch)


def test_dropped_modalities_bring_nothing(model: CremaModel, tmp_path: Path) -> None:
    modalities = {name: model.branch(name).modality for name in model.names}
    records = write_records(tmp_path / "data", 6)
    dataset = ModalityDataset(records, modalities, major=model.major, dropout=0.5, seed=3)
    batches = keys([[0, 0, 1, 2], [2, 1, 0, 3]])
    batches = [[key._replace(epoch=position) for position, key in enumerate(batch)] for batch in batches]
    window = Window(cacheable(model, model.names), num_sources=8)
    read = load_batches(dataset, window.plan(dataset, batches))
    for batch, alone in zip(read, load_batches(dataset, batches), strict=True):
        found, expected = encode_batch(model, None, batch, window), encode_batch(model, None, alone)
        assert {name: own.rows.tolist() for name, own in found.items()} == {
            name: own.rows.tolist() for name, own in expected.items()
        }


def test_records_of_a_source_come_together_in_their_order(tmp_path: Path) -> None:
    first, second, third = write_records(tmp_path / "data", 3)
    mixed = [second, first, second, third, first]
    assert by_source(mixed, ["main", "wave"]) == [[0, 2], [1, 4], [3]]
    order = list(range(3)) * 2
    random.Random(1).shuffle(order)
    assert sorted(map(len, by_source([[first, second, third][index] for index in order], ["main"]))) == [2, 2, 2]
    assert by_source([first, second], []) == [[0], [1]]
