"""One update: the reuse of tokens changes no number, and nothing moves that should not."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from crema_core.api.build import build
from crema_core.api.model import CremaModel
from crema_core.data.data_file import Record
from crema_core.data.dataset import Key, ModalityDataset, TrainBatch, load_batches
from crema_core.data.order import cut, epoch_order
from crema_core.errors import TrainingError
from crema_core.model.trainable import names_of, set_trainable
from crema_core.tokens import ModalityFeatures
from crema_core.train.distributed import Distributed
from crema_core.train.optim import gradient_norm
from crema_core.train.settings import train_settings
from crema_core.train.steps import Minibatch, Stepper
from tests.support.checkpoints import Published
from tests.support.numeric import double_precision
from tests.train.conftest import MakeModel
from tests.train.file_modalities import file_modalities, write_records


def batches(model: CremaModel, records: Sequence[Record], size: int, num: int) -> Iterator[TrainBatch]:
    dataset = ModalityDataset(
        records, {name: model.branch(name).modality for name in model.names}, major=model.major, dropout=0.3
    )
    keys: list[list[tuple[int, int]]] = []
    epoch = 0
    while len(keys) < num:
        order = epoch_order(len(records), seed=0, epoch=epoch)
        keys += [[Key(epoch, index) for index in piece] for piece in cut(order, size)]
        epoch += 1
    return load_batches(dataset, keys[:num])


def minibatches(model: CremaModel, records: Sequence[Record], size: int, num: int) -> list[Minibatch]:
    return [Minibatch(batch, model.encode(batch.modalities)) for batch in batches(model, records, size, num)]


def ready(model: CremaModel, distributed: Distributed, **settings: object) -> Stepper:
    chosen = train_settings(None, {"lr": 1e-2, **settings})
    stepper = Stepper(model, chosen, trained=chosen.modalities or model.names, distributed=distributed)
    set_trainable(model, names_of(model, stepper.parameters.values()))
    model.train()
    return stepper


def descending(stepper: Stepper, *, lr: float) -> Stepper:
    """Plain descent: AdamW would magnify rounding of gradients near zero."""
    stepper.optimizer = torch.optim.SGD(stepper.parameters.values(), lr=lr)
    return stepper


def naive_update(stepper: Stepper, batch: TrainBatch, active: Sequence[str]) -> None:
    """The published procedure, everything computed anew in every sub-step."""
    model = stepper.model
    for name in active:
        if name not in batch.present:
            continue
        features = model.encode(batch.modalities)
        questions = [record.question for record in batch.records]
        tokens = model.tokens(features, questions)
        answers = [record.answer for record in batch.records]
        model.loss(tokens, questions, answers).backward()
        own = {id(parameter) for parameter in [*stepper.adapters[name].values(), *stepper.shared.values()]}
        for parameter in stepper.parameters.values():
            if id(parameter) not in own:
                parameter.grad = None
        stepper.optimizer.step()
        stepper.optimizer.zero_grad(set_to_none=True)


def snapshot(model: CremaModel) -> dict[str, Tensor]:
    return {name: parameter.detach().clone() for name, parameter in model.named_parameters()}


def changed(model: CremaModel, before: dict[str, Tensor]) -> set[str]:
    return {name for name, parameter in model.named_parameters() if not torch.equal(parameter, before[name])}


def largest_difference(first: CremaModel, second: CremaModel) -> float:
    pairs = zip(first.trainable_parameters().values(), second.trainable_parameters().values(), strict=True)
    return max(float((a - b).detach().abs().max()) for a, b in pairs)


@pytest.mark.slow
def test_twenty_updates_equal_the_naive_loops(
    new_double_model: MakeModel, distributed: Distributed, tmp_path: Path
) -> None:
    records = write_records(tmp_path / "data", 8)
    reused, naive, start = (new_double_model() for _ in range(3))
    fast, slow = ready(reused, distributed), ready(naive, distributed)
    for batch in batches(reused, records, 2, 20):
        fast.sequential([Minibatch(batch, reused.encode(batch.modalities))], reused.names)
        naive_update(slow, batch, naive.names)
    assert largest_difference(start, reused) > 1e-2
    assert largest_difference(reused, naive) < 1e-6


@pytest.mark.slow
@pytest.mark.parametrize(
    "settings",
    [{}, *(pytest.param(own, marks=pytest.mark.slow) for own in ({"micro_batch_size": 1}, {"retained_graphs": 0}))],
    ids=str,
)
def test_updates_equal_the_naive_loop_where_all_modalities_pass_the_qformer_together(
    settings: dict[str, Any], new_double_model: MakeModel, distributed: Distributed, tmp_path: Path
) -> None:
    records = write_records(tmp_path / "data", 8)
    ours, naive, start = (new_double_model(fusion="mixture") for _ in range(3))
    fast, slow = (descending(own, lr=0.01) for own in (ready(ours, distributed, **settings), ready(naive, distributed)))
    for batch in batches(ours, records, 4, 4):
        fast.sequential([Minibatch(batch, ours.encode(batch.modalities))], ours.names)
        naive_update(slow, batch, naive.names)
    for name in ours.names:
        assert any(
            not torch.equal(own, start.lora_parameters(name)[key]) for key, own in ours.lora_parameters(name).items()
        )
    assert largest_difference(start, ours) > 1e-3
    assert largest_difference(ours, naive) < 1e-12


@pytest.mark.slow
@pytest.mark.parametrize(("size", "kept"), [(1, None), ((1, 3, 4), 2)])
def test_twenty_updates_in_parts_equal_the_naive_loops(
    size: int | tuple[int, ...], kept: int | None, new_double_model: MakeModel, distributed: Distributed, tmp_path: Path
) -> None:
    records = write_records(tmp_path / "data", 8)
    in_parts, naive, start = (new_double_model() for _ in range(3))
    fast, slow = (
        descending(own, lr=0.001)
        for own in (
            ready(in_parts, distributed, micro_batch_size=size, retained_graphs=kept),
            ready(naive, distributed),
        )
    )
    for batch in batches(in_parts, records, 4, 20):
        fast.sequential([Minibatch(batch, in_parts.encode(batch.modalities))], in_parts.names)
        naive_update(slow, batch, naive.names)
    assert largest_difference(start, in_parts) > 1e-2
    assert largest_difference(in_parts, naive) < 1e-12


@pytest.mark.slow
def test_graphs_that_do_not_wait_change_no_number(
    new_model: MakeModel, distributed: Distributed, tmp_path: Path
) -> None:
    records = write_records(tmp_path / "data", 8)
    models = [new_model() for _ in range(3)]
    steppers = [
        ready(model, distributed, retained_graphs=kept) for model, kept in zip(models, (None, 1, 0), strict=True)
    ]
    for batch in batches(models[0], records, 2, 6):
        for model, stepper in zip(models, steppers, strict=True):
            stepper.sequential([Minibatch(batch, model.encode(batch.modalities))], model.names)
    assert largest_difference(models[0], models[1]) == 0
    assert largest_difference(models[0], models[2]) == 0


@pytest.mark.slow
def test_updates_equal_the_naive_loop_where_the_qformer_reads_the_questions(
    published: Callable[[Published], Path], distributed: Distributed, tmp_path: Path
) -> None:
    records = write_records(tmp_path / "data", 8)
    folder = published("instructblip-flan-t5")
    reused, naive, start = (build(file_modalities(), backbone=folder).double() for _ in range(3))
    fast, slow = ready(reused, distributed), ready(naive, distributed)
    with double_precision():
        for batch in batches(reused, records, 2, 6):
            fast.sequential([Minibatch(batch, reused.encode(batch.modalities))], reused.names)
            naive_update(slow, batch, naive.names)
    assert largest_difference(start, reused) > 1e-2
    assert largest_difference(reused, naive) < 1e-6


def test_each_sub_step_moves_its_own_adapter_and_the_fusion_alone(
    new_model: MakeModel, distributed: Distributed, tmp_path: Path
) -> None:
    model = new_model()
    stepper = ready(model, distributed)
    (minibatch,) = minibatches(model, write_records(tmp_path / "data", 4), 4, 1)
    fusion = names_of(model, stepper.shared.values())
    for name in model.names:
        before = snapshot(model)
        stepper.sequential([minibatch], [name])
        own = names_of(model, stepper.adapters[name].values())
        moved = changed(model, before)
        assert moved <= own | fusion
        assert moved & own
        assert moved & fusion


Pass = tuple[str, bool, int]


@pytest.fixture
def passes(monkeypatch: pytest.MonkeyPatch) -> list[Pass]:
    """Every modality's passes as they come: its name, whether with a graph, of how many samples."""
    seen: list[Pass] = []
    compute = CremaModel.modality_tokens

    def counted(self: CremaModel, name: str, features: ModalityFeatures, *arguments: object) -> object:
        seen.append((name, torch.is_grad_enabled(), features.rows.shape[0]))
        return compute(self, name, features, *arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(CremaModel, "modality_tokens", counted)
    return seen


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many samples the language model reads at once, pass by pass."""
    seen: list[int] = []
    loss = CremaModel.loss
    monkeypatch.setattr(
        CremaModel, "loss", lambda self, *given, **named: seen.append(len(given[1])) or loss(self, *given, **named)
    )
    return seen


def test_adapter_passes_are_two_for_every_modality_less_one(
    new_model: MakeModel, distributed: Distributed, tmp_path: Path, passes: list[Pass]
) -> None:
    model = new_model()
    stepper = ready(model, distributed)
    (minibatch,) = minibatches(model, write_records(tmp_path / "data", 4), 4, 1)
    stepper.sequential([minibatch], model.names)
    first, *others = model.names
    num = {name: own.rows.shape[0] for name, own in minibatch.features.items()}
    with_graph = [(name, True, num[name]) for name in (*others, first)]
    assert passes == with_graph + [(name, False, num[name]) for name in model.names[:-1]]
    passes.clear()
    stepper.sequential([minibatch], model.names[1:3])  # two have exited: no graph, no refresh for them
    assert [has_graph for _, has_graph, _ in passes] == [False, True, False, True, False]


@pytest.mark.parametrize("mode", ["sequential", "joint"])
def test_a_tokenizer_reads_a_text_once_in_an_update(
    mode: str, new_model: MakeModel, distributed: Distributed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = new_model()
    stepper = ready(model, distributed, micro_batch_size=2)
    (minibatch,) = minibatches(model, write_records(tmp_path / "data", 4), 4, 1)
    tokenizer, read = type(model.backbone.tokenizer), []
    call = tokenizer.__call__

    def counted(self: Any, text: str, **settings: Any) -> Any:
        read.append((text, *sorted(settings.items())))
        return call(self, text, **settings)

    monkeypatch.setattr(tokenizer, "__call__", counted)
    update = getattr(stepper, mode)
    update([minibatch], model.names)
    questions = {record.question for record in minibatch.batch.records}
    assert len(read) == len(set(read))
    assert questions <= {text for text, *_ in read}
    once = len(read)
    update([minibatch], model.names)  # nothing is remembered from one update to the next
    assert len(read) == 2 * once


@pytest.mark.parametrize(("kept", "num"), [(None, 7), (3, 7), (2, 8), (1, 9), (0, 10)])
def test_a_graph_that_does_not_wait_costs_one_pass(
    kept: int | None, num: int, new_model: MakeModel, distributed: Distributed, tmp_path: Path, passes: list[Pass]
) -> None:
    model = new_model()
    (minibatch,) = minibatches(model, write_records(tmp_path / "data", 4), 4, 1)
    ready(model, distributed, retained_graphs=kept).sequential([minibatch], model.names)
    assert len(passes) == num
    assert sum(has_graph for _, has_graph, _ in passes) == len(model.names)


def test_what_does_not_wait_is_built_part_by_part(
    new_model: MakeModel, distributed: Distributed, tmp_path: Path, passes: list[Pass], read: list[int]
) -> None:
    model = new_model()
    (minibatch,) = minibatches(model, write_records(tmp_path / "data", 4), 4, 1)
    ready(model, distributed, retained_graphs=1, micro_batch_size=3).sequential([minibatch], model.names)
    assert read == 4 * [3, 1]
    rows = {name: own.rows.tolist() for name, own in minibatch.features.items()}
    parts = {name: [len(own) for own in ({*range(3)} & {*has}, {3} & {*has}) if own] for name, has in rows.items()}
    first, second, third, last = model.names
    assert passes == [
        (second, True, len(rows[second])),  # waits, whole
        (third, False, len(rows[third])),
        (last, False, len(rows[last])),
        *((first, True, num) for num in parts[first]),
        (first, False, len(rows[first])),
        (second, False, len(rows[second])),
        *((third, True, num) for num in parts[third]),
        (third, False, len(rows[third])),
        *((last, True, num) for num in parts[last]),
    ]


def test_each_sub_step_reads_its_own_number_of_samples_at_once(
    new_model: MakeModel, distributed: Distributed, tmp_path: Path, read: list[int]
) -> None:
    model = new_model()
    (minibatch,) = minibatches(model, write_records(tmp_path / "data", 4), 4, 1)
    stepper = ready(model, distributed, micro_batch_size=[1, 3, 8])
    stepper.sequential([minibatch], model.names)
    assert read == [1, 1, 1, 1, 3, 1, 4, 4]
    read.clear()
    stepper.joint([minibatch], model.names)
    assert read == [1, 1, 1, 1]


@pytest.mark.slow
def test_minibatches_of_one_update_keep_graphs_where_a_number_is_given(
    new_model: MakeModel, distributed: Distributed, tmp_path: Path, passes: list[Pass]
) -> None:
    model = new_model()
    group = minibatches(model, write_records(tmp_path / "data", 4), 2, 2)
    counts = []
    for kept in (None, 0, 2):
        ready(model, distributed, retained_graphs=kept).sequential(group, model.names)
        counts.append(len(passes))
        passes.clear()
    assert counts == [20, 20, 16]


@pytest.mark.slow
@pytest.mark.parametrize(
    "settings",
    [pytest.param({}, marks=pytest.mark.slow), {"micro_batch_size": 2, "retained_graphs": 1}],
    ids=["whole", "in parts"],
)
@pytest.mark.parametrize("mode", ["sequential", pytest.param("joint", marks=pytest.mark.slow)])
def test_accumulated_minibatches_equal_one_large_one(
    mode: str, settings: dict[str, int], new_double_model: MakeModel, distributed: Distributed, tmp_path: Path
) -> None:
    records = write_records(tmp_path / "data", 8)
    small, large = new_double_model(), new_double_model()
    in_parts, at_once = (
        descending(own, lr=0.005) for own in (ready(small, distributed, **settings), ready(large, distributed))
    )
    for _ in range(3):
        # Three minibatches of 3, 3 and 2 samples: the last one must not count for more.
        getattr(in_parts, mode)(minibatches(small, records, 3, 3), small.names)
        getattr(at_once, mode)(minibatches(large, records, 8, 1), large.names)
    assert largest_difference(small, new_double_model()) > 2e-3
    assert largest_difference(small, large) < 1e-12


def test_a_modality_that_no_sample_has_is_skipped(
    new_model: MakeModel, distributed: Distributed, tmp_path: Path
) -> None:
    model = new_model()
    stepper = ready(model, distributed)
    records = write_records(tmp_path / "data", 4, modalities="mp")
    before = snapshot(model)
    result = stepper.sequential(minibatches(model, records, 4, 1), model.names)
    assert tuple(result.losses) == ("main", "points")
    assert not changed(model, before) & names_of(model, stepper.adapters["wave"].values())


def test_samples_without_any_trained_modality_are_no_update(
    new_model: MakeModel, distributed: Distributed, tmp_path: Path
) -> None:
    model = new_model()
    stepper = ready(model, distributed, modalities=("wave",))
    before = snapshot(model)
    result = stepper.sequential(
        minibatches(model, write_records(tmp_path / "data", 3, modalities="mo"), 3, 1), ["wave"]
    )
    assert result.losses == {}
    assert not changed(model, before)


def test_training_some_modalities_leaves_what_all_share_alone(
    new_model: MakeModel, distributed: Distributed, tmp_path: Path
) -> None:
    model = new_model()
    stepper = ready(model, distributed, modalities=("wave",))
    before = snapshot(model)
    for _ in range(2):
        stepper.sequential(minibatches(model, write_records(tmp_path / "data", 3), 3, 1), ["wave"])
    allowed = [*model.adapter_parameters("wave").values(), *model.fusion_parameters(["wave"]).values()]
    moved = changed(model, before)
    assert moved
    assert moved <= names_of(model, allowed)


def test_joint_training_is_one_step_of_all_modalities(
    new_model: MakeModel, distributed: Distributed, tmp_path: Path
) -> None:
    model = new_model()
    stepper = ready(model, distributed)
    result = stepper.joint(minibatches(model, write_records(tmp_path / "data", 4), 4, 1), model.names)
    assert tuple(result.losses) == ("joint",)
    assert tuple(result.gradient_norms) == model.names
    steps = {float(state["step"]) for state in stepper.optimizer.state.values()}
    assert steps == {1.0}


def test_only_adapters_and_fusion_have_optimizer_state(
    new_model: MakeModel, distributed: Distributed, tmp_path: Path
) -> None:
    model = new_model()
    stepper = ready(model, distributed)
    stepper.sequential(minibatches(model, write_records(tmp_path / "data", 4), 4, 1), model.names)
    trained = list(model.trainable_parameters().values())
    assert set(map(id, stepper.optimizer.state)) == set(map(id, trained))
    moments = [value for state in stepper.optimizer.state.values() for value in state.values() if value.dim()]
    assert sum(moment.nbytes for moment in moments) == 2 * sum(parameter.nbytes for parameter in trained)


def test_the_lora_metric_measures_the_lora_alone(
    new_model: MakeModel, distributed: Distributed, tmp_path: Path
) -> None:
    model = new_model()
    stepper = ready(model, distributed, early_exit_metric="lora")
    assert [id(p) for p in stepper.measured["wave"]] == [id(p) for p in model.lora_parameters("wave").values()]


def test_a_modality_without_lora_is_trained_and_measured_by_the_rest_of_its_adapter(
    t5_folder: Path, distributed: Distributed, tmp_path: Path
) -> None:
    specs = file_modalities(num=3)
    bare = specs[2].mmqa.model_copy(update={"lora_rank": 0})
    model = build([*specs[:2], specs[2].model_copy(update={"mmqa": bare})], backbone=t5_folder)
    stepper = ready(model, distributed, early_exit_metric="lora")
    own = {"queries", *(f"{part}.{end}" for part in ("projection", "norm", "output") for end in ("weight", "bias"))}
    assert model.adapter_parameters("wave").keys() == {f"mmqa.{key}" for key in own}
    assert set(map(id, stepper.measured["wave"])) == set(map(id, model.adapter_parameters("wave").values()))
    assert set(map(id, stepper.measured["other"])) == set(map(id, model.lora_parameters("other").values()))
    before = model.adapter_state_dict()
    result = stepper.sequential(minibatches(model, write_records(tmp_path / "data", 4), 4, 1), model.names)
    assert result.gradient_norms["wave"] > 0
    after = model.adapter_state_dict()
    assert {key for key in own if not torch.equal(before[f"modalities.wave.mmqa.{key}"],
                                                  after[f"modalities.wave.mmqa.{key}"])} == own  # fmt: skip


def test_clipping_bounds_the_update_and_not_the_metric(
    new_model: MakeModel, distributed: Distributed, tmp_path: Path
) -> None:
    model = new_model()
    norms: list[float] = []
    stepper = ready(model, distributed, max_grad_norm=1e-3, early_exit_metric="adapter")

    def note(*_: object) -> None:
        norms.append(gradient_norm(stepper.parameters.values()))

    stepper.optimizer.register_step_pre_hook(note)
    result = stepper.sequential(minibatches(model, write_records(tmp_path / "data", 4), 4, 1), ["main"])
    assert norms == [pytest.approx(1e-3, rel=1e-3)]
    assert result.gradient_norms["main"] > 1e-2


def test_a_loss_that_is_not_finite_stops_with_the_samples(
    new_model: MakeModel, distributed: Distributed, tmp_path: Path
) -> None:
    model = new_model()
    stepper = ready(model, distributed)
    with torch.no_grad():
        model.adapter_parameters("main")["mmqa.queries"].fill_(float("nan"))
    with pytest.raises(TrainingError) as error:
        stepper.sequential(minibatches(model, write_records(tmp_path / "data", 2), 2, 1), model.names)
    ids = str(error.value).partition("samples ")[2].partition(".")[0]
    assert set(ids.split(", ")) == {"s0", "s1"}
    assert str(error.value) == (
        f"The loss of main became nan on the samples {ids}. A loss must be finite. Look at these samples first. "
        'Lower lr, set max_grad_norm=1.0, or use precision="fp32".'
    )


def test_the_forward_pass_uses_bf16_when_asked(new_model: MakeModel, tmp_path: Path) -> None:
    exact, rounded = new_model(), new_model()
    losses = []
    for model, precision in ((exact, "fp32"), (rounded, "bf16")):
        stepper = ready(model, Distributed(precision=precision, folder=tmp_path))  # type: ignore[arg-type]
        result = stepper.sequential(minibatches(model, write_records(tmp_path / "data", 4), 4, 1), ["main"])
        losses.append(result.losses["main"])
        assert {parameter.dtype for parameter in model.trainable_parameters().values()} == {torch.float32}
    assert losses[0] != losses[1]
    assert losses[0] == pytest.approx(losses[1], rel=0.05)
