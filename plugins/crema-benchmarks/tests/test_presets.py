"""Runs of the CREMA paper by name."""

from __future__ import annotations

import pytest

from crema_core.errors import OptionsError, PluginError
from crema_core.model.template import PromptTemplate
from crema_core.plugins import groups, registry
from crema_core.plugins.preset import Preset, PresetFamily, find_preset
from crema_core.train.settings import TrainSettings, train_settings
from tests.support.presets import preset_names

RUNS = [name for name in preset_names() if find_preset(name).config]


@pytest.mark.parametrize("name", RUNS)
def test_every_run_is_complete(name: str) -> None:
    preset = find_preset(name)
    assert preset.name == name
    assert isinstance(train_settings(name), TrainSettings)
    PromptTemplate(**preset.config["template"])
    assert {"lr", "epochs", "batch_size", "early_exit"} <= preset.notes.keys()


def test_letters_are_modalities_in_their_order() -> None:
    for name, modalities in {
        "nextqa-vfdn": ["video", "flow", "depth", "normals"],
        "nextqa-vdf": ["video", "depth", "flow"],
        "touchqa-vt": ["video", "touch"],
        "thermalqa-vt": ["video", "thermal"],
        "music-avqa-vaf": ["video", "audio", "flow"],
        "sqa3d-vp": ["video", "pointcloud"],
    }.items():
        preset = find_preset(name)
        assert preset.config["modalities"] == modalities


VARIANTS = (
    "'nextqa' has variants (one letter for each modality, in the order of training): nextqa-v, nextqa-vf, nextqa-vfd, "
    "nextqa-vfdn."
)


@pytest.mark.parametrize("name", ["nextqa", "nextqa-", "nextqa-vx", "nextqa-vv", "nextqa-va", "nextqa-vt"])
def test_other_variants_are_refused_with_those_there_are(name: str) -> None:
    with pytest.raises(OptionsError) as caught:
        find_preset(name)
    text = str(caught.value)
    assert text.startswith(f"'{name}' is not a preset: {VARIANTS}")
    assert text.endswith(" Name one of these.")


def test_a_preset_without_variants_has_none() -> None:
    with pytest.raises(OptionsError) as caught:
        find_preset("tiny-v")
    assert str(caught.value) == (
        "'tiny-v' is not a preset, and 'tiny' has no variants. Name 'tiny', or another: crema plugins list --kind "
        "preset"
    )


def test_a_run_of_a_package_that_is_not_installed_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(groups, "directory", lambda: {"preset": {"birdsong": "crema-birds"}})
    for name in ("birdsong", "birdsong-va"):
        with pytest.raises(OptionsError, match=r"It is provided by crema-birds\. Run: pip install crema-birds$"):
            find_preset(name)


def test_presets_of_this_process_are_found_alike() -> None:
    quick = Preset("quick", settings={"epochs": 1})
    registry.register(quick, kind="preset")
    made = {"a": Preset("birds-a", config={"modalities": ["audio"]}, settings={"lr": 0.5})}
    registry.register(PresetFamily("birds", ("a",), made.get), kind="preset")
    assert find_preset("quick") is quick
    assert train_settings("birds-a").lr == 0.5
    assert {"quick", "birds-a", "crema-core:tiny".rpartition(":")[2]} <= set(preset_names())
    assert find_preset("crema-benchmarks:nextqa-vf") == find_preset("nextqa-vf")


def test_presets_of_a_package_that_is_switched_off_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CREMA_PLUGINS_DISABLE", "crema-benchmarks")
    with pytest.raises(PluginError, match="'nextqa' is installed"):
        find_preset("nextqa-vf")


def test_numbers_of_the_paper_and_its_scripts() -> None:
    found = {
        name: (settings.lr, settings.min_lr, settings.batch_size, settings.epochs, settings.max_new_tokens)
        for name in ("sqa3d-vpdn", "music-avqa-va", "music-avqa-vaf", "nextqa-v", "audiocaps-qa-a", "three-d-llm-p")
        for settings in [train_settings(name)]
    }
    assert found == {
        "sqa3d-vpdn": (2e-4, 1e-5, 16, 20, 40),
        "music-avqa-va": (2e-4, 0.0, 24, 20, 10),
        "music-avqa-vaf": (2e-4, 0.0, 16, 20, 10),
        "nextqa-v": (1e-4, 0.0, 16, 20, 10),
        "audiocaps-qa-a": (1e-5, 0.0, 16, 1, 10),
        "three-d-llm-p": (1e-5, 0.0, 16, 1, 10),
    }
