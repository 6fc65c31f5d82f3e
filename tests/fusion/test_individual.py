"""The baseline of individual Q-Formers: all of each is trained, apart from each other and at a rate of its own."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import torch

from crema_core.api.build import build
from crema_core.api.load import load
from crema_core.api.model import CremaModel
from crema_core.api.requests import ModalityRequest
from crema_core.common.progress import StatusLine
from crema_core.errors import BuildError, CheckpointError, OptionsError
from crema_core.evaluation.run import evaluate
from crema_core.features.feature_cache import prepare_batch
from crema_core.fusion import plan_fusion
from crema_core.model.load_backbone import load_backbone
from crema_core.plugins import registry
from crema_core.plugins.hooks import Hooks, hookimpl
from crema_core.plugins.spec import ModalitySpec
from crema_core.tokens import ModalityFeatures
from crema_core.train.fit import fit
from crema_core.train.trainer import Trainer, TrainingInterrupted
from tests.support.checkpoints import Language, Published
from tests.support.modalities import frames_spec, wave_spec
from tests.train.file_modalities import file_modalities, write_records

NAME = "individual_qformers"
LAYERS, QUERIES, HIDDEN = 2, 5, 12


def modalities(num: int) -> list[ModalitySpec]:
    """The first of three, whose examples are at hand."""
    return [frames_spec("main"), frames_spec("other"), wave_spec()][:num]


def make(backbone: Path, num: int = 3, *, specs: Sequence[ModalitySpec] | None = None, **options: object) -> CremaModel:
    """A model whose every trained weight is other than at the start; its modalities read files unless others come."""
    specs = file_modalities(num=num, dropout=0.1) if specs is None else specs
    model = build(specs, backbone=backbone, **{"fusion": NAME, "seed": 4, **options})
    torch.manual_seed(1)
    with torch.no_grad():
        for parameter in model.trainable_parameters().values():
            parameter.add_(torch.randn_like(parameter) * 0.02)
    return model


def new(backbone: Path, num: int = 3, **options: object) -> CremaModel:
    """The same of modalities whose examples are at hand."""
    return make(backbone, specs=modalities(num), **options)


def features_of(model: CremaModel, *names: str) -> dict[str, ModalityFeatures]:
    generator = torch.Generator().manual_seed(3)
    sources = {name: model.branch(name).modality.example(generator) for name in names or model.names}
    return model.encode(prepare_batch(model, [sources]))


def prompt(model: CremaModel, *names: str) -> torch.Tensor:
    with torch.no_grad():
        return model.prompt(model.tokens(features_of(model, *names), ["what ?"]), ["what ?"]).embeds


def same(first: CremaModel, second: CremaModel) -> bool:
    one, two = first.adapter_state_dict(), second.adapter_state_dict()
    return one.keys() == two.keys() and all(torch.equal(one[key], two[key]) for key in one)


# What it is


def test_it_starts_as_concatenation_of_the_shared_model_does(t5_folder: Path) -> None:
    model = build(modalities(3), backbone=t5_folder, seed=4, fusion=NAME)
    shared = build(modalities(3), backbone=t5_folder, seed=4, fusion="concat")
    assert torch.equal(prompt(model), prompt(shared))  # a LoRA starts at zero


def test_every_weight_of_every_qformer_is_trained_and_nothing_of_the_backbone(t5_folder: Path, tmp_path: Path) -> None:
    records = write_records(tmp_path / "data", 6)
    model = make(t5_folder)
    assert model.backbone.qformer is not None
    plain = sum(own.numel() for own in model.backbone.qformer.parameters())
    shared = build(file_modalities(num=3), backbone=t5_folder, fusion="concat")
    lora = sum(own.numel() for name in shared.names for own in shared.lora_parameters(name).values())
    counts = [sum(own.numel() for own in built.trainable_parameters().values()) for built in (model, shared)]
    assert counts[0] - (counts[1] - lora) == 3 * plain
    assert not any("lora_" in name for name, _ in model.named_parameters())

    frozen = model.frozen_fingerprint()
    before = {key: value.clone() for key, value in model.named_parameters()}
    fit(
        model, records, out=tmp_path / "run", mode="joint", epochs=1, lr=1e-1, batch_size=3, warmup_steps=0,
        status=StatusLine(enabled=False),
    )  # fmt: skip
    moved = {key for key, value in model.named_parameters() if not torch.equal(before[key], value)}
    apart = {key for key in before if ".adapter.own_qformer." in key}
    assert len(apart) == 3 * len(list(model.backbone.qformer.parameters()))
    # A key bias adds the same to all scores of a query, so its gradient is nothing but rounding.
    assert {key for key in apart - moved if not key.endswith("key.bias")} == set()
    assert not any(key.startswith("backbone.") for key in moved)
    assert model.frozen_fingerprint() == frozen


def test_one_modalitys_sub_step_moves_its_own_qformer_alone(t5_folder: Path, tmp_path: Path) -> None:
    records = write_records(tmp_path / "data", 6)
    model = make(t5_folder)
    before = model.adapter_state_dict()
    fit(
        model, records, out=tmp_path / "run", modalities=["wave"], epochs=1, lr=1e-1, batch_size=3, warmup_steps=0,
        status=StatusLine(enabled=False),
    )  # fmt: skip
    moved = {key for key, value in model.adapter_state_dict().items() if not torch.equal(before[key], value)}
    assert moved
    assert all(key.startswith("modalities.wave.") for key in moved)
    assert any(".qformer." in key for key in moved)


@pytest.mark.slow
def test_it_is_described_with_its_weights_and_arithmetic_at_its_modality(t5_folder: Path) -> None:
    model, shared = new(t5_folder, 2), build(modalities(2), backbone=t5_folder, fusion="concat")
    rows, others = ({row.name: row for row in built.describe().components} for built in (model, shared))
    assert model.backbone.qformer is not None
    plain = sum(own.numel() for own in model.backbone.qformer.parameters())
    for name in ("main", "other"):
        lora = sum(own.numel() for own in shared.lora_parameters(name).values())
        assert rows[name].trainable == others[name].trainable - lora + plain
    assert rows["Q-Former"].gflops == 0
    moved = sum(rows[name].gflops for name in ("main", "other"))
    stayed = sum(others[name].gflops for name in ("main", "other", "Q-Former"))
    assert moved == pytest.approx(stayed, rel=0.1)  # less the LoRA's
    assert moved < stayed


# Its learning rate


@pytest.mark.slow
def test_the_rate_of_its_connectors_is_scaled_through_the_whole_schedule(t5_folder: Path, tmp_path: Path) -> None:
    seen: list[tuple[float, set[float]]] = []

    class Watch:
        @hookimpl
        def crema_train_started(self, trainer: Trainer) -> None:
            self.trainer = trainer

        @hookimpl
        def crema_step_finished(self) -> None:
            rates = {group["lr"] for group in self.trainer.stepper.optimizer.param_groups}
            at = self.trainer.position
            seen.append((self.trainer.schedule(at), rates))

    hooks = Hooks(strict=True)
    hooks.add(Watch(), name="watch")
    records = write_records(tmp_path / "data", 6)
    model = make(t5_folder, fusion={"name": NAME, "lr_scale": 0.25})
    fit(
        model, records, out=tmp_path / "run", epochs=2, lr=1e-2, batch_size=2, log_every=1, hooks=hooks,
        status=StatusLine(enabled=False),
    )  # fmt: skip
    lines = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    logged = [line["lr"] for line in lines if "lr" in line]
    assert len(seen) == len(logged) == 6
    for rate, (_, rates) in zip(logged, seen, strict=True):
        assert rates == {0.25 * rate}


@pytest.mark.parametrize("scale", [0, -1.0, float("inf"), float("nan"), "0.1", True, None])
def test_a_scale_that_is_none_is_refused_before_anything_is_loaded(scale: object) -> None:
    with pytest.raises(OptionsError) as caught:
        plan_fusion({"name": NAME, "lr_scale": scale})
    assert str(caught.value) == (
        f"fusion: lr_scale={scale!r} cannot scale a learning rate. Accepted: a number above 0. Use lr_scale=0.15, the "
        "default."
    )
    assert [plan_fusion(own).lr_scale for own in (NAME, {"name": NAME, "lr_scale": 1}, "concat")] == [0.15, 1.0, 1.0]


@pytest.mark.slow  # trains twice and continues once
def test_an_interrupted_training_ends_with_the_numbers_of_an_uninterrupted_one(t5_folder: Path, tmp_path: Path) -> None:
    records = write_records(tmp_path / "data", 6)

    def train(model: CremaModel, out: str, *, stop: bool = False, resume: bool = False) -> None:
        class Stop:
            @hookimpl
            def crema_step_finished(self, step: int) -> None:
                if stop and step == 2:
                    os.kill(os.getpid(), signal.SIGINT)

        hooks = Hooks(strict=True)
        hooks.add(Stop(), name="stop")
        fit(
            model, records, out=tmp_path / out, resume=resume, epochs=2, lr=1e-1, batch_size=2, hooks=hooks,
            status=StatusLine(enabled=False),
        )  # fmt: skip

    whole, continued = make(t5_folder), make(t5_folder)
    start = make(t5_folder)
    train(whole, "whole")
    with pytest.raises(TrainingInterrupted):
        train(make(t5_folder), "stopped", stop=True)
    train(continued, "stopped", resume=True)
    assert same(whole, continued)
    assert not same(whole, start)


def test_what_early_exit_measures_is_the_whole_of_it(t5_folder: Path, tmp_path: Path) -> None:
    records = write_records(tmp_path / "data", 6)
    norms = []
    for metric in ("lora", "adapter"):
        model = make(t5_folder)
        fit(
            model, records, out=tmp_path / metric, epochs=1, lr=1e-1, batch_size=3, early_exit=1.8, log_every=1,
            early_exit_metric=metric, status=StatusLine(enabled=False),
        )  # fmt: skip
        lines = [json.loads(line) for line in (tmp_path / metric / "metrics.jsonl").read_text().splitlines()]
        norms.append([{key: value for key, value in line.items() if key.startswith("grad_norm")} for line in lines])
    assert norms[0] == norms[1]
    assert any(norms[0])


# Saved, shared, added


@pytest.fixture
def registered() -> None:
    for spec in modalities(3):
        registry.register(spec)


def test_a_saved_model_loads_to_identical_outputs_and_trains_at_its_rate(
    t5_folder: Path, tmp_path: Path, registered: None
) -> None:
    model = new(t5_folder, fusion={"name": NAME, "lr_scale": 0.5})
    model.save_pretrained(tmp_path / "model")
    loaded = load(tmp_path / "model")
    assert same(model, loaded)
    assert torch.equal(prompt(model), prompt(loaded))
    assert [loaded.branch(name).adapter.lr_scale for name in loaded.names] == [0.5] * 3


def test_an_adapter_brings_its_qformer_to_a_model_that_lacks_the_modality(
    t5_folder: Path, tmp_path: Path, registered: None
) -> None:
    model = new(t5_folder)
    model.save_adapter("wave", tmp_path / "wave")
    two = new(t5_folder, 2)
    two.load_adapter(tmp_path / "wave")
    assert same(model, two)
    assert torch.equal(prompt(model), prompt(two))


@pytest.mark.parametrize(("trained_with", "loaded_into"), [(NAME, "concat"), ("concat", NAME)])
def test_adapters_with_and_without_a_qformer_of_their_own_do_not_mix(
    trained_with: str, loaded_into: str, t5_folder: Path, tmp_path: Path, registered: None
) -> None:
    build(modalities(3), backbone=t5_folder, fusion=trained_with).save_adapter("wave", tmp_path / "wave")
    for num in (2, 3):  # without the modality, and with one of its own
        model = new(t5_folder, num, fusion=loaded_into)
        before = model.adapter_state_dict()
        with pytest.raises(CheckpointError) as caught:
            model.load_adapter(tmp_path / "wave")
        was, now = {
            NAME: ("a Q-Former of its own", "share one"),
            "concat": ("a shared Q-Former", "have their own"),
        }[trained_with]
        assert str(caught.value) == (
            f"Cannot load 'wave' into this model: it was trained with {was} (fusion '{trained_with}'), this model's "
            f"modalities {now} (fusion '{loaded_into}'). Build the model with fusion='{trained_with}'. Nothing was "
            "changed."
        )
        after = model.adapter_state_dict()
        assert before.keys() == after.keys()
        assert all(torch.equal(value, after[key]) for key, value in before.items())


def test_an_added_modality_gets_a_qformer_of_its_own_and_changes_no_answer_without_it(t5_folder: Path) -> None:
    model = new(t5_folder, 2)
    before = prompt(model)
    model.add_modality(wave_spec())
    assert any(".qformer." in key for key in model.trainable_parameters() if ".wave." in key)
    assert torch.equal(prompt(model, "main", "other"), before)


# Where it works


def test_a_qformer_that_reads_the_question_does_so_in_every_copy(published: Callable[[Published], Path]) -> None:
    model, shared = (
        build(modalities(3), backbone=published("instructblip-vicuna"), fusion=own) for own in (NAME, "concat")
    )
    assert model.reads_questions
    for name, own in features_of(model).items():
        asked = [model.modality_tokens(name, own, [question]).values for question in ("what ?", "where is it ?")]
        assert not torch.allclose(*asked)
        assert torch.equal(asked[0], shared.modality_tokens(name, own, ["what ?"]).values)


def test_another_language_model_keeps_the_backbone_that_has_a_qformer(languages: Callable[[Language], Path]) -> None:
    model = build(["video"], language_model=str(languages("llama")), fusion=NAME)
    assert model.backbone.source == "crema-tiny"
    assert any(".qformer." in key for key in model.trainable_parameters())


def test_a_backbone_object_that_carries_adapters_is_refused(t5_folder: Path) -> None:
    backbone = load_backbone(t5_folder)
    build(file_modalities(num=1), backbone=backbone)
    specs: list[ModalityRequest] = [file_modalities(num=3)[2]]
    with pytest.raises(BuildError, match="'wave' is to get a copy of the Q-Former, and this backbone object's carries"):
        build(specs, backbone=backbone, fusion=NAME)


def test_a_vision_language_models_pictures_keep_their_way() -> None:
    model = build(["video", {"name": "touch"}], backbone="crema-tiny-vlm", fusion=NAME)
    assert {key.split(".")[1] for key in model.trainable_parameters()} == {"touch"}
    assert any(".qformer." in key for key in model.trainable_parameters())
    own = set(map(id, model.trainable_parameters().values()))
    assert model.backbone.qformer is not None
    assert not own & set(map(id, model.backbone.qformer.parameters()))


def test_evaluation_takes_it_as_any_other(t5_folder: Path, tmp_path: Path) -> None:
    result = evaluate(make(t5_folder), write_records(tmp_path / "data", 3), out=tmp_path / "answers.jsonl")
    assert len((tmp_path / "answers.jsonl").read_text().splitlines()) == 3
    assert 0 <= result.accuracy <= 1
