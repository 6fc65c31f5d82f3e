"""Runs of the CREMA paper by name."""

from __future__ import annotations

import pytest

from crema_core.datasets.presets import find_preset, preset_names
from crema_core.model.template import PromptTemplate
from crema_core.train.settings import TrainSettings, train_settings


@pytest.mark.parametrize("name", preset_names())
def test_every_run_is_complete(name: str) -> None:
    preset = find_preset(name)
    assert preset is not None
    assert isinstance(train_settings(name), TrainSettings)
    PromptTemplate(**preset.config["template"])
    assert {"lr", "epochs", "batch_size", "early_exit"} <= preset.notes.keys()


def test_letters_are_senses_in_their_order() -> None:
    for name, senses in {
        "nextqa-vfdn": ["video", "flow", "depth", "normals"],
        "nextqa-vdf": ["video", "depth", "flow"],
        "touchqa-vt": ["video", "touch"],
        "thermalqa-vt": ["video", "thermal"],
        "music-avqa-vaf": ["video", "audio", "flow"],
        "sqa3d-vp": ["video", "pointcloud"],
    }.items():
        preset = find_preset(name)
        assert preset is not None
        assert preset.config["modalities"] == senses


def test_stages_of_merv() -> None:
    found = {
        name: (
            settings.lr,
            settings.batch_size * settings.accumulation,
            settings.weight_decay,
            preset.config.get("tuning"),
        )
        for name in ("merv-align", "merv-full-align", "merv-finetune", "merv-frozen")
        for settings, preset in [(train_settings(name), find_preset(name))]
        if preset is not None
    }
    assert found == {
        "merv-align": (1e-3, 256, 0.0, None),
        "merv-full-align": (1e-4, 256, 0.0, "full"),
        "merv-finetune": (2e-5, 128, 0.1, "full"),
        "merv-frozen": (2e-5, 128, 0.1, "full"),
    }
    aligned, frozen = find_preset("merv-align"), find_preset("merv-frozen")
    assert aligned is not None
    assert frozen is not None
    assert (aligned.config["precision"], frozen.config["precision"]) == ("bf16", "fp32")  # what is trained is in fp32
    settings = train_settings("merv-frozen")
    assert (settings.epochs, settings.warmup_ratio, settings.clip_norm, settings.seed) == (1, 0.03, 1.0, 7)


@pytest.mark.parametrize(
    "name", ["nextqa", "nextqa-", "nextqa-vx", "nextqa-vv", "nextqa-va", "nextqa-vt", "avqa-v", "tiny"]
)
def test_other_names_are_no_run(name: str) -> None:
    assert find_preset(name) is None


def test_numbers_of_the_paper_and_its_scripts() -> None:
    found = {
        name: (settings.lr, settings.min_lr, settings.batch_size, settings.epochs, settings.max_new_tokens)
        for name in ("sqa3d-vpdn", "music-avqa-va", "music-avqa-vaf", "nextqa-v")
        for settings in [train_settings(name)]
    }
    assert found == {
        "sqa3d-vpdn": (2e-4, 1e-5, 16, 20, 40),
        "music-avqa-va": (2e-4, 0.0, 24, 20, 10),
        "music-avqa-vaf": (2e-4, 0.0, 16, 20, 10),
        "nextqa-v": (1e-4, 0.0, 16, 20, 10),
    }
