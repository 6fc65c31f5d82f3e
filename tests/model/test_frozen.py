"""Frozen means frozen, and only the named parameters train."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from crema_core.api.build import build
from crema_core.api.model import CremaModel
from crema_core.errors import CheckpointError
from crema_core.features.feature_cache import prepare_batch
from crema_core.model.backbone_family import BackboneFamily
from crema_core.model.load_backbone import load_backbone
from crema_core.model.trainable import names_of, set_trainable
from crema_core.plugins import registry
from tests.support.modalities import frames_spec, wave_spec


def loss_of(model: CremaModel) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    sources = [{name: model.branch(name).modality.example(generator) for name in model.names} for _ in range(2)]
    features = model.encode(prepare_batch(model, sources))
    tokens = {name: model.modality_tokens(name, own) for name, own in features.items()}
    return model.loss(tokens, ["what color ?", "left or right"], ["red", "left"])


def test_at_most_adapters_and_fusion_are_trainable_after_build(model: CremaModel) -> None:
    trainable = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert trainable <= names_of(model, model.trainable_parameters().values())
    assert not any(parameter.requires_grad for parameter in model.backbone.language_model.parameters())


@pytest.mark.parametrize("name", ["main", "other", "wave", "points"])
def test_gradients_reach_one_modality_and_the_fusion_only(model: CremaModel, name: str) -> None:
    wanted = [*model.adapter_parameters(name).values(), *model.fusion_parameters().values()]
    set_trainable(model, names_of(model, wanted))
    loss_of(model).backward()
    with_gradient = {name for name, parameter in model.named_parameters() if parameter.grad is not None}
    assert with_gradient == names_of(model, wanted)


def test_an_optimizer_step_leaves_every_frozen_weight_as_it_was(model: CremaModel) -> None:
    before = model.frozen_fingerprint()
    parameters = list(model.trainable_parameters().values())
    set_trainable(model, names_of(model, parameters))
    optimizer = torch.optim.AdamW(parameters, lr=0.1)
    loss_of(model).backward()
    optimizer.step()
    assert model.frozen_fingerprint() == before


def test_train_mode_switches_lora_dropout_on_and_nothing_frozen(t5_folder: Path) -> None:
    model = build([wave_spec(mmqa=wave_spec().mmqa.model_copy(update={"lora_dropout": 0.5}))], backbone=t5_folder)
    model.train()
    training = {name for name, module in model.backbone.named_modules() if module.training}
    assert training
    assert all("lora_dropout" in name for name in training)
    model.eval()
    assert not any(module.training for module in model.modules())


def test_frozen_dropout_puts_the_language_model_in_train_mode_but_not_vision(t5_folder: Path) -> None:
    model = build([wave_spec()], backbone=t5_folder, backbone_dropout=True).train()
    assert model.backbone.language_model.training
    assert not model.backbone.vision_model.training


def test_a_new_adapter_starts_as_the_backbone_itself(t5_folder: Path) -> None:
    from transformers import Blip2ForConditionalGeneration

    model = build([frames_spec("main")], backbone=t5_folder)
    pixels = torch.randn(2, 3, 16, 16)
    features = model.encode(prepare_batch(model, [{"main": pixels}]))
    ours = model.modality_tokens("main", features["main"]).values[0]
    reference = Blip2ForConditionalGeneration.from_pretrained(t5_folder).eval()
    theirs = reference.get_image_features(pixels, return_dict=True).pooler_output
    torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=0)


def test_a_place_without_backbone_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"No backbone was found at .* Accepted: a folder or hub id in BLIP-2"):
        load_backbone(tmp_path)


def test_another_kind_of_model_is_refused(tmp_path: Path) -> None:
    from transformers import T5Config

    T5Config().save_pretrained(tmp_path)
    providers = registry.providers("backbone")
    loading = sorted(found.name for found in providers if isinstance(found.load(), BackboneFamily))
    assert {"blip-2", "instructblip"} <= set(loading)
    with pytest.raises(CheckpointError) as caught:
        load_backbone(tmp_path)
    assert str(caught.value) == (
        f"'{tmp_path}' is a 't5' model, and no installed backbone family loads it. Installed: "
        f"{', '.join(loading)}. Try backbone='Salesforce/blip2-flan-t5-xl', or "
        "'crema-tiny' to see everything work."
    )
