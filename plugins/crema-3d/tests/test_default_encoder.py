"""Which encoder a model gets where none is named: stored features on a pretrained backbone, positions on a tiny one."""

from __future__ import annotations

import pytest

import crema_core

pytestmark = pytest.mark.slow  # builds whole published shapes


def test_the_backbone_decides() -> None:
    tiny = crema_core.build(["pointcloud"], backbone="crema-tiny")
    assert tiny.config["modalities"][0]["options"]["encoder"] == "fourier"
    large = crema_core.build(["pointcloud"], backbone="blip2-flan-t5-xl")
    assert large.config["modalities"][0]["options"]["encoder"] == "features"
    assert large.branch("pointcloud").modality.feature_dim == 1408


def test_a_named_encoder_is_kept() -> None:
    model = crema_core.build([{"name": "pointcloud", "encoder": "fourier"}], backbone="blip2-flan-t5-xl")
    assert model.config["modalities"][0]["options"]["encoder"] == "fourier"
    assert model.branch("pointcloud").defaults == {}
