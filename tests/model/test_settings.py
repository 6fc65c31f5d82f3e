"""Settings of a model: built once, recorded under the keys saved models have, read back from them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from pydantic import BaseModel

from crema_core.api.build import build
from crema_core.cli.fit_config import FitConfig
from crema_core.errors import BuildError, OptionsError
from crema_core.model.load_backbone import load_backbone
from crema_core.model.settings import BackboneSettings, ModelSettings
from crema_core.model.template import PromptTemplate
from crema_core.model.tuning import LanguageLora
from crema_core.plugins.spec import parse_settings, with_changes
from tests.support.modalities import wave_spec

SAVED = {
    "parts": {},
    "backbone": {"source": "place", "revision": "main", "precision": "bf16", "image_size": 56},
    "language_model": {"source": "other", "revision": "v2"},
    "backbone_dropout": True,
    "quantization": "8bit",
    "tuning": {"rank": 4},
    "fusion": {"name": "concat", "append": True},
    "major": "main",
    "seed": 3,
    "template": {"open_ended": "{question}?"},
    "modalities": [],
}


def test_what_a_saved_model_records_is_read_back_and_recorded_alike() -> None:
    settings = ModelSettings.of_saved(SAVED)
    assert settings == ModelSettings(
        backbone="place",
        revision="main",
        language_model="other",
        language_revision="v2",
        precision="bf16",
        backbone_dropout=True,
        quantization="8bit",
        image_size=56,
        fusion={"name": "concat", "append": True},
        tuning={"rank": 4},
        major="main",
        template={"open_ended": "{question}?"},
        seed=3,
    )
    assert settings.record() == {key: SAVED[key] for key in settings.record()}
    assert set(settings.record()) == {"backbone", "language_model", "backbone_dropout", "quantization"}


def test_a_model_saved_before_these_keys_were_written_is_read() -> None:
    old = {key: value for key, value in SAVED.items() if key not in ("language_model", "quantization", "tuning")}
    old["backbone"] = {"source": "place", "revision": None, "precision": "fp32"}
    settings = ModelSettings.of_saved(old)
    assert (settings.language_model, settings.quantization, settings.tuning, settings.image_size) == (None,) * 4
    assert settings.record() == {"backbone": old["backbone"], "language_model": None, "backbone_dropout": True}


@pytest.mark.parametrize("value", [True, False])
def test_the_earlier_name_of_backbone_dropout_is_read(value: bool) -> None:
    old = {key: saved for key, saved in SAVED.items() if key != "backbone_dropout"} | {"frozen_dropout": value}
    assert ModelSettings.of_saved(old).backbone_dropout is value


def test_a_backbone_object_brings_its_own_settings_into_the_record(t5_folder: Path) -> None:
    loaded = load_backbone(t5_folder, precision="bf16", backbone_dropout=True)
    assert loaded.settings == BackboneSettings(backbone=str(t5_folder), precision="bf16", backbone_dropout=True)
    model = build([wave_spec()], backbone=loaded, fusion="concat")
    assert model.config["backbone"] == {"source": str(t5_folder), "revision": None, "precision": "bf16"}
    assert model.config["backbone_dropout"] is True


def test_what_a_backbone_object_would_not_do_is_refused(t5_folder: Path) -> None:
    loaded = load_backbone(t5_folder, precision="bf16")
    with pytest.raises(BuildError) as caught:
        build([wave_spec()], backbone=loaded, precision="fp32", backbone_dropout=True)
    assert str(caught.value) == (
        "precision, backbone_dropout came with a backbone object, which is loaded already and stays as it is. Accepted "
        "beside it: what it was loaded with. Pass load_backbone(...) these settings, or leave them out."
    )
    assert build([wave_spec()], backbone=loaded, precision="bf16").config["backbone"]["precision"] == "bf16"


def test_settings_whole_and_as_keywords_build_the_same_model(t5_folder: Path) -> None:
    template = PromptTemplate(open_ended="{question} Answer:")
    whole = ModelSettings(backbone=str(t5_folder), seed=5, template=template.model_dump(), mmqa={"lora_rank": 4})
    by_object = build([wave_spec()], whole)
    by_name = build([wave_spec()], backbone=t5_folder, seed=5, template=template, mmqa={"lora_rank": 4})
    assert by_object.config == by_name.config
    state, other = by_object.adapter_state_dict(), by_name.adapter_state_dict()
    assert all(bool((state[key] == other[key]).all()) for key in state)
    assert build([wave_spec()], whole, seed=6).config["seed"] == 6


def test_a_configuration_of_a_training_has_the_fields_of_a_model_and_gives_them_on() -> None:
    config = parse_settings(FitConfig, {"data": "train.jsonl", "backbone": "b", "seed": 4}, title="fit")
    assert set(ModelSettings.model_fields) < set(FitConfig.model_fields)
    assert config.model() == ModelSettings(backbone="b", seed=4)
    assert config.model("backbone") == ModelSettings(backbone="b")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"precison": "bf16"}, "build: unknown option 'precison'. Accepted: .*Did you mean 'precision'?"),
        ({"image_size": 0}, "build.image_size: input should be greater than or equal to 1, got 0. Give another value"),
        ({"seed": "x"}, "build.seed: input should be a valid integer, .*, got 'x'. Give another value"),
    ],
)
def test_a_wrong_setting_is_refused_with_what_is_accepted(changes: dict[str, object], message: str) -> None:
    with pytest.raises(OptionsError, match=message):
        build([wave_spec()], **changes)  # type: ignore[arg-type]


def test_changes_keep_the_kind_of_settings_and_what_was_chosen() -> None:
    config = FitConfig(data="train.jsonl", backbone="b")
    changed = with_changes(config, {"seed": 2}, title="fit")
    assert changed == FitConfig(data="train.jsonl", backbone="b", seed=2)
    assert with_changes(config, {}, title="fit") is config


@pytest.mark.parametrize("module", ["crema_core.model.settings", "crema_core.evaluation.settings"])
def test_settings_need_no_torch(module: str) -> None:
    code = f"import sys, {module}; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize(("settings", "name", "accepted", "refused"), [
    (BackboneSettings, "image_size", 1, 0), (PromptTemplate, "max_question_tokens", 2, 1),
    (LanguageLora, "rank", 1, 0), (LanguageLora, "alpha", 1, 0),
    (LanguageLora, "dropout", 0.0, -1e-9), (LanguageLora, "dropout", 0.999, 1.0),
])  # fmt: skip
def test_numbers_are_taken_up_to_their_bounds_and_refused_beyond(
    settings: type[BaseModel], name: str, accepted: float, refused: float
) -> None:
    assert getattr(parse_settings(settings, {name: accepted}, title="own"), name) == accepted
    with pytest.raises(OptionsError, match=rf"^own\.{name}: "):
        parse_settings(settings, {name: refused}, title="own")
