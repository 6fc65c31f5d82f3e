"""Which encoder a model gets where none is named: the paper's on a pretrained backbone, `patches` on a tiny one."""

from __future__ import annotations

from pathlib import Path

import pytest

import crema_core
from crema_audio.modality import AudioModality
from crema_audio.plugin import AudioOptions
from crema_core.errors import AssetError
from crema_core.modality import BuildContext


def test_a_tiny_backbone_gets_patches_and_a_saved_model_records_it(tmp_path: Path) -> None:
    model = crema_core.build(["audio"], backbone="crema-tiny")
    assert model.branch("audio").defaults == {"encoder": "patches"}
    assert model.config["modalities"][0]["options"]["encoder"] == "patches"
    model.save_pretrained(tmp_path / "model")
    again = crema_core.load(tmp_path / "model")
    assert again.config["modalities"] == model.config["modalities"]
    assert again.branch("audio").defaults == {}  # a saved model chooses nothing anew


def test_a_modality_added_later_records_its_encoder_too() -> None:
    model = crema_core.build(["video"], backbone="crema-tiny")
    model.add_modality("audio")
    assert model.config["modalities"][1]["options"]["encoder"] == "patches"


@pytest.mark.slow
def test_a_backbone_of_shapes_is_counted_with_beats() -> None:
    model = crema_core.build(["audio"], backbone="blip2-flan-t5-xl")
    assert model.config["modalities"][0]["options"]["encoder"] == "beats"
    assert sum(parameter.numel() for parameter in model.adapter_parameters("audio").values()) == 5_044_352


def test_a_pretrained_backbone_asks_for_the_weights_of_beats() -> None:
    modality = AudioModality(AudioOptions(window_s=0.32), BuildContext(pretrained=True))
    assert modality.options == AudioOptions(window_s=0.32, encoder="beats")
    with pytest.raises(AssetError, match="'encoder': 'patches'"):
        modality.load_assets(None)


def test_a_named_encoder_is_kept_on_any_backbone() -> None:
    modality = AudioModality(AudioOptions(encoder="patches"), BuildContext(pretrained=True))
    assert modality.options == AudioOptions(encoder="patches")
