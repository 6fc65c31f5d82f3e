"""Records -> items -> batches, with any subset of modalities in any sample."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from crema_core.data import dataset as dataset_module
from crema_core.data.data_file import Record
from crema_core.data.dataset import Key, ModalityDataset, TrainBatch, collate, load_batches
from crema_core.data.modality_calls import Carried
from crema_core.errors import MediaError, WorkerError
from crema_core.modality import Batch, BuildContext, Features, Modality, Sample
from crema_core.plugins.spec import ModalityOptions

NAMES = ("main", "a", "b")
logging.getLogger("torch.utils.data").setLevel(logging.ERROR)


class LengthModality(Modality):
    """Its source is a path that ends in a number n; the sample is n steps of the value n."""

    def prepare(self, source: Any) -> Sample:
        if source.endswith("bad"):
            raise MediaError(f"'{source}' cannot be read. A number is accepted. Write it again.")
        length = int(source)
        return Sample({"x": torch.full((length, 2), float(length))})

    def encode(self, batch: Batch) -> Features:
        return Features(batch["x"][:, :, None], batch.mask)

    def example(self, generator: torch.Generator) -> str:
        return "3"


def modalities() -> Mapping[str, Modality]:
    return {name: LengthModality(ModalityOptions(), BuildContext()) for name in NAMES}


def records(*given: dict[str, str]) -> list[Record]:
    return [Record(f"s{i}", "?", "x", dict(own), line=i + 1) for i, own in enumerate(given)]


SOURCES = st.dictionaries(st.sampled_from(NAMES), st.integers(1, 4).map(str))


@settings(deadline=None)
@given(st.lists(SOURCES, min_size=1, max_size=5), st.sampled_from([(), ("a",), NAMES]))
def test_a_batch_holds_each_modality_for_the_samples_that_have_it(
    given: list[dict[str, str]], cached: tuple[str, ...]
) -> None:
    dataset = ModalityDataset(records(*given), modalities(), major="main", cached=cached)
    (batch,) = load_batches(dataset, [[Key(0, index) for index in range(len(given))]])
    for name in NAMES:
        rows = [row for row, own in enumerate(given) if name in own]
        assert (name in batch.present) == bool(rows)
        assert (name in batch.modalities) == (bool(rows) and name not in cached)
        if name in batch.modalities:
            prepared = batch.modalities[name]
            assert batch.present[name].tolist() == prepared.rows.tolist() == rows
            assert prepared.batch.mask.sum(1).tolist() == [int(given[row][name]) for row in rows]


def test_dropout_is_a_function_of_the_position_alone() -> None:
    dataset = ModalityDataset(
        records(*[{"main": "1", "a": "2", "b": "3"}] * 6), modalities(), major="main", dropout=0.5
    )
    first = [dataset[Key(4, index)].modalities for index in range(6)]
    assert first == [dataset[Key(4, index)].modalities for index in range(6)]
    assert first != [dataset[Key(5, index)].modalities for index in range(6)]
    assert len(set(first)) > 1


@pytest.mark.parametrize("num_workers", [0, 2])
def test_an_unreadable_source_is_named_with_its_sample(num_workers: int) -> None:
    dataset = ModalityDataset(records({"main": "1"}, {"main": "2", "a": "bad"}), modalities(), major="main")
    with pytest.raises(MediaError) as error:
        list(load_batches(dataset, [[Key(0, 0)], [Key(0, 1)]], num_workers=num_workers))
    assert str(error.value) == "Sample 's1' (line 2): 'bad' cannot be read. A number is accepted. Write it again."


def test_workers_give_the_same_batches_in_the_same_order() -> None:
    dataset = ModalityDataset(records(*[{"main": str(1 + i % 3)} for i in range(7)]), modalities(), major="main")
    keys = [[Key(0, 6), Key(0, 1)], [Key(0, 3)], [Key(0, 2), Key(0, 5)]]
    state = torch.get_rng_state()
    plain, busy = (list(load_batches(dataset, keys, num_workers=num)) for num in (0, 2))
    assert [batch.ids for batch in plain] == [("s6", "s1"), ("s3",), ("s2", "s5")]
    assert [batch.ids for batch in busy] == [batch.ids for batch in plain]
    assert all(
        torch.equal(one.modalities["main"].batch["x"], two.modalities["main"].batch["x"])
        for one, two in zip(plain, busy, strict=True)
    )
    assert torch.equal(torch.get_rng_state(), state)


class NotingModality(LengthModality):
    """Makes the file that its source names when it reads it."""

    def prepare(self, source: Any) -> Sample:
        Path(source).touch()
        return Sample({"x": torch.ones(1, 2)})


@pytest.mark.slow
def test_workers_read_ahead_while_a_batch_is_used(tmp_path: Path) -> None:
    marks = [tmp_path / str(number) for number in range(4)]
    noting = {"main": NotingModality(ModalityOptions(), BuildContext())}
    dataset = ModalityDataset(records(*({"main": str(mark)} for mark in marks)), noting, major="main")
    batches = load_batches(dataset, [[Key(0, index)] for index in range(4)], num_workers=1)
    next(batches)
    until_s = time.monotonic() + 60
    while not marks[1].exists() and time.monotonic() < until_s:
        time.sleep(0.01)
    assert marks[1].exists()
    assert len(list(batches)) == 3


def test_samples_without_any_modality_make_a_batch_of_questions() -> None:
    dataset = ModalityDataset(records({}, {}), modalities(), major="main")
    batch = collate([dataset[Key(0, 0)], dataset[Key(0, 1)]], modalities=dataset.modalities)
    assert isinstance(batch, TrainBatch)
    assert (len(batch), batch.present, batch.modalities) == (2, {}, {})


def test_too_small_a_shared_memory_is_carried_to_the_main_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """torch would print it in a thread of the worker, and the main process would wait for ever."""
    shared: list[torch.Tensor] = []

    def full(own: torch.Tensor) -> None:
        shared.append(own)
        raise RuntimeError(
            "unable to allocate shared memory(shm) for file </torch_1>: Resource temporarily unavailable"
        )

    batch = {"frames": torch.zeros(2, 3)}
    monkeypatch.setattr(dataset_module, "collate", lambda *_, **__: batch)
    assert dataset_module._collate_shared([], modalities={}, pass_over=False) is batch
    monkeypatch.setattr(dataset_module, "get_worker_info", lambda: "a worker")
    dataset_module._collate_shared([], modalities={}, pass_over=False)
    assert batch["frames"].is_shared()
    monkeypatch.setattr(torch.Tensor, "share_memory_", full)
    found = dataset_module._collate_shared([], modalities={}, pass_over=False)
    assert isinstance(found, Carried)
    assert isinstance(found.error, WorkerError)
    assert "--shm-size" in str(found.error)
    assert shared[0] is batch["frames"]


def test_too_many_open_files_are_no_small_shared_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(own: torch.Tensor) -> None:
        raise RuntimeError(
            "unable to open shared memory object </torch_1> in read-write mode: Too many open files (24)"
        )

    monkeypatch.setattr(dataset_module, "collate", lambda *_, **__: {"frames": torch.zeros(2, 3)})
    monkeypatch.setattr(dataset_module, "get_worker_info", lambda: "a worker")
    monkeypatch.setattr(torch.Tensor, "share_memory_", full)
    found = dataset_module._collate_shared([], modalities={}, pass_over=False)
    assert isinstance(found, Carried)
    assert str(found.error).startswith("Too many files are open at once (")
    assert "ulimit -n 1024" in str(found.error)
