"""Both modalities as side channels of PAVE."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from crema_core.api.build import build
from tests.support.vlm import save_vlm

pytest.importorskip("crema_pave")

CHOICES = ["red", "blue"]


@pytest.fixture(scope="module", params=["llava_onevision", "qwen2_5_vl"])
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_vlm(tmp_path_factory.mktemp("video") / "model", request.param)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["dense_video", "exo_views"])
def test_a_modality_updates_the_visual_tokens_once_its_patch_is_trained(folder: Path, name: str) -> None:
    modalities = [{"name": "video", "num_frames": 3}, {"name": name, "pool": 2}]
    model = build(modalities, backbone=folder, fusion={"name": "pave", "embed_dim": 16, "num_heads": 2})
    generator = torch.Generator().manual_seed(0)
    given = {own: model.branch(own).modality.example(generator) for own in model.names}
    plain = model.answer("what colour ?", CHOICES, video=given["video"]).scores
    assert model.answer("what colour ?", CHOICES, **given).scores == plain
    with torch.no_grad():
        for parameter in model.fusion_parameters([name]).values():
            parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.3)
    assert model.answer("what colour ?", CHOICES, **given).scores != plain
