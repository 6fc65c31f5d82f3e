"""Training the language model beside the modalities: LoRA, or all of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from crema_core import load
from crema_core.api.build import build
from crema_core.api.describe import describe_model
from crema_core.api.model import CremaModel
from crema_core.errors import OptionsError
from crema_core.model.load_backbone import load_backbone
from crema_core.model.tuning import LanguageLora, add_lora, parse_tuning
from crema_core.plugins import registry
from crema_core.train.distributed import Distributed
from crema_core.train.fit import fit
from crema_core.train.settings import TrainSettings
from crema_core.train.steps import Stepper
from tests.model.vlm.test_training import write_samples
from tests.support.languages import save_language_model
from tests.support.modalities import frames_spec, wave_spec
from tests.support.steps import train_a_little

LORA = {"rank": 4, "alpha": 8, "dropout": 0.5}
CHOICES = ["red", "blue"]


def tuned(folder: Path, tuning: Any) -> CremaModel:
    return build([frames_spec("main"), wave_spec()], backbone=folder, tuning=tuning)


def scores(model: CremaModel) -> list[float]:
    source = model.branch("main").modality.example(torch.Generator().manual_seed(3))
    return list(model.answer("what color ?", CHOICES, main=source).scores.values())


def language_state(model: CremaModel) -> dict[str, torch.Tensor]:
    return {key: value.clone() for key, value in model.backbone.language_model.state_dict().items()}


@pytest.mark.parametrize("folder", ["t5_folder", "opt_folder"])
@pytest.mark.parametrize("tuning", [LORA, "full"])
def test_nothing_changes_before_training(folder: str, tuning: Any, request: pytest.FixtureRequest) -> None:
    place = request.getfixturevalue(folder)
    assert scores(tuned(place, tuning)) == scores(tuned(place, None))


def test_lora_starts_the_same_in_every_build_of_a_seed(opt_folder: Path) -> None:
    first, second = (tuned(opt_folder, LORA).language_parameters() for _ in range(2))
    assert all(torch.equal(value, second[key]) for key, value in first.items())
    assert any(bool(value.any()) for value in first.values())


def test_lora_is_on_every_linear_layer_of_the_blocks_and_nowhere_else(opt_folder: Path) -> None:
    model = tuned(opt_folder, LORA)
    layers = {key.rpartition(".")[0].rpartition(".")[2] for key in model.language_parameters()}
    assert layers == {"q_proj", "k_proj", "v_proj", "out_proj", "fc1", "fc2"}
    count = model.backbone.language_model.config.num_hidden_layers
    assert len(model.language_parameters()) == 2 * 6 * count
    assert model.language_parameters()["model.decoder.layers.0.fc1.A"].shape[0] == 4


def test_training_moves_lora_and_leaves_the_weights_below_it(t5_folder: Path) -> None:
    model = tuned(t5_folder, LORA)
    before, frozen = language_state(model), model.frozen_fingerprint()
    losses = train_a_little(model)
    after = language_state(model)
    assert losses[-1] < losses[0]
    assert {key for key in before if not torch.equal(before[key], after[key])} == {
        key for key in before if "lora_" in key
    }
    assert model.frozen_fingerprint() == frozen


def test_full_tuning_moves_every_weight_of_the_language_model_alone(t5_folder: Path) -> None:
    model = tuned(t5_folder, "full")
    identity, before = model.backbone.identity(), language_state(model)
    vision = [parameter.clone() for parameter in model.backbone.vision_model.parameters()]
    train_a_little(model)
    after = language_state(model)
    assert all(not torch.equal(before[key], after[key]) for key in before)
    assert all(torch.equal(old, new) for old, new in zip(vision, model.backbone.vision_model.parameters(), strict=True))
    assert model.backbone.identity() == identity  # what it was before it was trained, which a saved model names


@pytest.mark.slow
@pytest.mark.parametrize("tuning", [LORA, "full"])
def test_a_saved_model_answers_the_same(t5_folder: Path, tmp_path: Path, tuning: Any) -> None:
    for spec in (frames_spec("main"), wave_spec()):
        registry.register(spec)
    model = tuned(t5_folder, tuning)
    train_a_little(model)
    model.eval()
    model.save_pretrained(tmp_path / "saved")
    assert scores(load(tmp_path / "saved")) == scores(model)
    assert scores(model) != scores(tuned(t5_folder, tuning))


def test_dropout_of_the_lora_follows_train_mode(t5_folder: Path) -> None:
    model = tuned(t5_folder, LORA).train()
    assert {name for name, part in model.backbone.language_model.named_modules() if part.training} != set()
    assert all("lora_dropout" in name for name, part in model.backbone.named_modules() if part.training)
    model.eval()
    assert not any(part.training for part in model.modules())


@pytest.mark.parametrize(
    ("settings", "language"),
    [({}, True), ({"modalities": ("wave",)}, False), ({"modalities": ("wave",), "train_shared": True}, True)],
)
def test_training_some_modalities_leaves_the_language_model_unless_asked(
    t5_folder: Path, tmp_path: Path, settings: dict[str, Any], language: bool
) -> None:
    model, chosen = tuned(t5_folder, LORA), TrainSettings(**settings)
    distributed = Distributed(precision="fp32", folder=tmp_path)
    stepper = Stepper(model, chosen, trained=chosen.modalities or model.names, distributed=distributed)
    assert any(key.startswith("language.") for key in stepper.parameters) == language
    assert ("fusion.bias" in stepper.parameters) == language
    assert stepper.parameters.keys() <= model.trainable_parameters().keys()


@pytest.mark.slow
def test_describe_counts_what_is_trained_of_the_language_model(t5_folder: Path) -> None:
    rows = {row.name: row for row in describe_model(tuned(t5_folder, "full")).components}
    assert (rows["language model"].frozen, rows["language model"].trainable > 0) == (0, True)
    lora = tuned(t5_folder, LORA)
    rows = {row.name: row for row in describe_model(lora).components}
    assert rows["language model"].trainable == sum(own.numel() for own in lora.language_parameters().values())


def test_the_defaults_are_those_of_pave() -> None:
    settings = LanguageLora()
    assert (settings.rank, settings.alpha, settings.dropout) == (64, 16, 0.05)


def test_anything_else_is_refused() -> None:
    with pytest.raises(OptionsError) as caught:
        parse_tuning("lora")
    assert str(caught.value) == (
        "tuning='lora' says nothing about the language model. Accepted: None (frozen), 'full', or settings of a LoRA. "
        "Write tuning={'rank': 64, 'alpha': 16}."
    )


def test_an_unknown_setting_is_refused() -> None:
    with pytest.raises(OptionsError) as caught:
        parse_tuning({"ranks": 4})
    assert str(caught.value) == (
        "tuning: unknown option 'ranks'. Accepted: alpha, dropout, rank, targets. Did you mean 'rank'?"
    )


def test_targets_that_are_not_there_are_refused(t5_folder: Path) -> None:
    with pytest.raises(OptionsError) as caught:
        tuned(t5_folder, {"targets": ("q_proj",)})
    assert str(caught.value) == (
        "tuning.targets=['q_proj'] names no linear layer of this language model that takes a LoRA. Accepted: k, o, q, "
        "v, wi_0, wi_1, wo. Leave targets out for all of them."
    )


@pytest.mark.parametrize(
    ("kind", "others"),
    [
        pytest.param(kind, others, marks=() if kind == "mamba" else pytest.mark.slow)
        for kind, others in {
            "mamba": set[str](),
            "mamba2": set[str](),
            "falcon_mamba": set[str](),
            "falcon_h1": {"q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"},
            "nemotron_h": {"q_proj", "k_proj", "v_proj", "o_proj"},
            "bamba": {"q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"},
        }.items()
    ],
)
def test_a_mamba_mixer_has_a_lora_where_it_calls_a_layer_and_none_where_it_takes_its_weight(
    kind: str, others: set[str], t5_folder: Path, tmp_path: Path
) -> None:
    language = save_language_model(tmp_path, kind)
    model = build([frames_spec("main"), wave_spec()], backbone=t5_folder, language_model=language, tuning=LORA)
    ends = {key.rpartition(".")[0].rpartition(".")[2] for key in model.language_parameters()}
    assert ends == {"in_proj"} | others
    start = {key: own.clone() for key, own in model.language_parameters().items()}
    frozen = language_state(model)
    losses = train_a_little(model)
    assert all(loss == loss and loss < 1e3 for loss in losses)
    assert min(losses[1:]) < losses[0]
    still = [key for key, own in model.language_parameters().items() if torch.equal(own, start[key])]
    assert not still, "the gradient reaches every matrix"
    after = language_state(model)
    assert all(torch.equal(after[key], own) for key, own in frozen.items() if "lora_" not in key)


@pytest.mark.parametrize("kind", ["mamba", pytest.param("nemotron_h", marks=pytest.mark.slow)])
def test_fit_trains_the_lora_of_a_mamba_and_saves_it(kind: str, t5_folder: Path, tmp_path: Path) -> None:
    language = save_language_model(tmp_path / "language", kind)
    sound = {"name": "audio", "encoder": "patches"}
    model = build([sound], backbone=t5_folder, language_model=language, tuning=LORA)
    start = {key: own.clone() for key, own in model.language_parameters().items()}
    data = write_samples(tmp_path, "train", 4, seed=0)
    run = fit(model, data, out=tmp_path / "run", epochs=3, batch_size=2, lr=1e-2, warmup_steps=0)
    losses = [float(str(row["loss"])) for row in run.metrics if row["kind"] == "epoch"]
    assert losses[-1] < losses[0]
    assert not [key for key, own in model.language_parameters().items() if torch.equal(own, start[key])]
    model.save_pretrained(tmp_path / "saved")
    again = load(tmp_path / "saved").language_parameters()
    assert all(torch.equal(again[key], own) for key, own in model.language_parameters().items())


def test_a_layer_whose_weight_a_mamba_mixer_takes_is_refused_as_target(t5_folder: Path, tmp_path: Path) -> None:
    language = save_language_model(tmp_path, "mamba")
    with pytest.raises(OptionsError) as caught:
        build([wave_spec()], backbone=t5_folder, language_model=language, tuning={"targets": ("out_proj",)})
    assert str(caught.value) == (
        "tuning.targets=['out_proj'] names no linear layer of this language model that takes a LoRA. Accepted: "
        "in_proj. Leave targets out for all of them."
    )


def test_a_lora_goes_beside_one_the_language_model_came_with(opt_folder: Path) -> None:
    plain = load_backbone(opt_folder)
    layers = [f"model.decoder.layers.0.{name}" for name in ("self_attn.q_proj", "fc1")]
    add_lora(plain.language_model, "own", targets=layers, rank=2, alpha=4, dropout=0.0)
    with torch.no_grad():
        for name, parameter in plain.language_model.named_parameters():
            if ".own." in name:
                parameter.fill_(0.1)
    ids = torch.tensor([[5, 7, 9]])
    before = plain.language_model(ids).logits
    plain.tune(LanguageLora(rank=4, alpha=8, dropout=0.0))
    assert torch.equal(plain.language_model(ids).logits, before), "its own goes on taking part"
    parameters = plain.tuned_parameters()
    assert len(parameters) == 2 * 6 * plain.language_model.config.num_hidden_layers
    assert not any("lora_" in key or "base_layer" in key for key in parameters)
    with torch.no_grad():
        for parameter in parameters.values():
            parameter.fill_(0.1)
    assert not torch.equal(plain.language_model(ids).logits, before)


def test_lora_is_trained_in_float32_on_a_language_model_in_bf16(opt_folder: Path) -> None:
    model = build([frames_spec("main"), wave_spec()], backbone=opt_folder, tuning=LORA, precision="bf16")
    assert {parameter.dtype for parameter in model.language_parameters().values()} == {torch.float32}
    assert {parameter.dtype for parameter in model.trainable_parameters().values()} == {torch.float32}
    losses = train_a_little(model)
    assert losses[-1] < losses[0]
