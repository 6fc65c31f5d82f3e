"""How often a program waits for its device: once a minibatch and once a sub-step, and answering no more than it must.

Counted on the CPU, see `tests.support.waits`; what fails lists where the waits come from.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from crema_core.api.build import build
from crema_core.api.model import CremaModel
from crema_core.api.predict import QuestionBatch, predict
from crema_core.data.data_file import Record, read_data_file
from crema_core.data.dataset import Key, ModalityDataset, TrainBatch, load_batches
from crema_core.errors import TrainingError
from crema_core.features.encode import encode_for_training
from crema_core.features.feature_cache import FeatureCache
from crema_core.model.trainable import names_of, set_trainable
from crema_core.train.distributed import Distributed
from crema_core.train.settings import train_settings
from crema_core.train.steps import Minibatch, Stepper, StepResult
from tests.support.waits import listed, waits
from tests.train.conftest import MakeModel
from tests.train.file_modalities import write_records

FUSIONS = (
    "self_gated",
    "concat",
    "ungated",
    "token_mixture",
    "supporting_cross_attention",
    "linear",
    "cross_attention",
    "mixture",
    "individual_qformers",
)
BACKBONES = ("crema-tiny", "crema-tiny-video", "crema-tiny-vlm")


def one_batch(model: CremaModel, records: Sequence[Record]) -> TrainBatch:
    """Return all records as one batch, in which some modalities of some samples are left out."""
    modalities = {name: model.branch(name).modality for name in model.names}
    dataset = ModalityDataset(records, modalities, major=model.major, seed=1, dropout=0.3)
    (batch,) = load_batches(dataset, [[Key(0, index) for index in range(len(records))]])
    return batch


def ready(model: CremaModel, distributed: Distributed, **settings: object) -> Stepper:
    stepper = Stepper(
        model, train_settings(None, {"lr": 1e-3, **settings}), trained=model.names, distributed=distributed
    )
    set_trainable(model, names_of(model, stepper.parameters.values()))
    model.train()
    return stepper


def require_one_wait_a_sub_step(stepper: Stepper, group: Sequence[Minibatch]) -> None:
    """Update both ways and count: a wait for each sub-step, and one for the masks of each minibatch."""
    names = stepper.model.names
    for update in (stepper.sequential, stepper.joint):
        with waits() as found:
            result: StepResult = update(group, names)
        allowed = len(result.losses) + len(group)
        assert sum(found.values()) == allowed, f"{allowed} waits are allowed, counted were\n{listed(found)}"


@pytest.mark.slow
@pytest.mark.parametrize("fusion", FUSIONS)
def test_a_sub_step_waits_for_the_device_once(
    fusion: str, new_model: MakeModel, distributed: Distributed, tmp_path: Path
) -> None:
    model = new_model(num=3, fusion=fusion)
    batch = one_batch(model, write_records(tmp_path / "data", 5))
    require_one_wait_a_sub_step(ready(model, distributed), [Minibatch(batch, model.encode(batch.modalities))])


@pytest.mark.slow
def test_parts_and_several_minibatches_wait_no_more_often(
    new_model: MakeModel, distributed: Distributed, tmp_path: Path
) -> None:
    model = new_model(num=2)
    records = write_records(tmp_path / "data", 5)
    batches = [one_batch(model, records[:3]), one_batch(model, records[3:])]
    group = [Minibatch(batch, model.encode(batch.modalities)) for batch in batches]
    require_one_wait_a_sub_step(ready(model, distributed, micro_batch_size=2, max_grad_norm=1.0), group)


@pytest.mark.slow
def test_masks_of_cached_features_are_known_without_a_wait(
    new_model: MakeModel, distributed: Distributed, tmp_path: Path
) -> None:
    model = new_model(num=3)
    batch = one_batch(model, write_records(tmp_path / "data", 5))
    cache = FeatureCache(model)
    for name, own in model.encode(batch.modalities).items():
        cache.put(name, [batch.records[row].sources[name] for row in own.rows.tolist()], own.features)
    cached = TrainBatch(batch.records, batch.present, {})
    stepper = ready(model, distributed)
    with waits() as found:
        group = [Minibatch(cached, encode_for_training(model, cache, cached))]
        result = stepper.sequential(group, model.names)
    ours = {place: count for place, count in found.items() if place.startswith("cpu at ")}
    assert not ours, listed(found)
    assert sum(count for place, count in found.items() if "optim.py" in place) == len(result.losses)


@pytest.mark.slow
@pytest.mark.parametrize("backbone", BACKBONES)
def test_the_shipped_backbones_wait_once_a_sub_step(backbone: str, distributed: Distributed, clips: Path) -> None:
    model = build(["video", "depth"], backbone=backbone)
    records = read_data_file(clips, modalities=model.names)[:4]
    batch = one_batch(model, records)
    require_one_wait_a_sub_step(ready(model, distributed), [Minibatch(batch, model.encode(batch.modalities))])


def asked(model: CremaModel, records: Sequence[Record], choices: Sequence[str] | None) -> QuestionBatch:
    batch = one_batch(model, records)
    features = model.encode(batch.modalities)
    texts = [model.template.render(record.question, choices) for record in records]
    keys = {name: [records[row].paths(name) for row in own.rows.tolist()] for name, own in features.items()}
    return QuestionBatch(texts, [choices] * len(records), features, keys)


def test_choices_are_scored_with_two_waits(new_model: MakeModel, tmp_path: Path) -> None:
    model = new_model(num=3).eval()
    batch = asked(model, write_records(tmp_path / "data", 5), ["red", "left"])
    with waits() as found:
        predict(model, batch, max_new_tokens=1)
    assert sum(found.values()) == 2, listed(found)  # the masks, and the scores


@pytest.mark.slow
def test_an_open_answer_waits_once_a_token(new_model: MakeModel, tmp_path: Path) -> None:
    model = new_model(num=3).eval()
    batch = asked(model, write_records(tmp_path / "data", 5), None)
    totals = []
    for length in (1, 3):
        with waits() as found:
            predict(model, batch, max_new_tokens=length)
        a_token = [count for place, count in found.items() if "unfinished_sequences.max()" in place]
        assert sum(a_token) <= length, listed(found)
        totals.append(sum(found.values()) - sum(a_token))
    # The masks, transformers' look at two ids of the vocabulary, whether scores were numbers, and the ids.
    assert totals == [5, 5], listed(found)


def spoil_loss(model: CremaModel, monkeypatch: pytest.MonkeyPatch, call: int) -> None:
    """Let one of the losses that the model gives be no number, and its gradient too."""
    loss, calls = model.loss, iter(range(100))

    def spoiled(*given: Any, **named: Any) -> Tensor:
        found = loss(*given, **named)
        return found * torch.nan if next(calls) == call else found

    monkeypatch.setattr(model, "loss", spoiled)


@pytest.mark.parametrize("part", [1, *(pytest.param(part, marks=pytest.mark.slow) for part in (0, 2))])
def test_a_part_whose_loss_is_not_finite_is_named_and_nothing_moves(
    part: int, new_model: MakeModel, distributed: Distributed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = new_model(num=2)
    batch = one_batch(model, write_records(tmp_path / "data", 5))
    stepper = ready(model, distributed, micro_batch_size=2)
    before = model.adapter_state_dict()
    spoil_loss(model, monkeypatch, part)
    with pytest.raises(TrainingError) as error:
        stepper.sequential([Minibatch(batch, model.encode(batch.modalities))], model.names)
    ids = ", ".join(record.id for record in batch.records[2 * part : 2 * part + 2])
    assert str(error.value).startswith(f"The loss of main became nan on the samples {ids}. A loss must be finite.")
    after = model.adapter_state_dict()
    assert all(torch.equal(before[key], after[key]) for key in before)
    assert not stepper.optimizer.state


def test_a_process_without_the_loss_that_is_not_finite_points_to_the_other(
    new_model: MakeModel, distributed: Distributed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = new_model(num=1)
    batch = one_batch(model, write_records(tmp_path / "data", 2))
    stepper = ready(model, distributed)
    minibatch = Minibatch(batch, model.encode(batch.modalities))
    before = model.adapter_state_dict()

    def reduced(parameters: object, losses: Sequence[Tensor]) -> Tensor:
        return losses[0] * torch.nan

    monkeypatch.setattr(distributed, "reduce_gradients", reduced)
    with pytest.raises(TrainingError, match=r"^The loss of main became nan in another process of this launch\."):
        stepper.joint([minibatch], model.names)
    after = model.adapter_state_dict()
    assert all(torch.equal(before[key], after[key]) for key in before)
