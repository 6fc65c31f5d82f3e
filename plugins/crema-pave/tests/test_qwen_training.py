"""Runs of training on a Qwen-VL backbone: both orders, early exit, and the saved model."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pytest
import torch

from crema_core.api.load import load
from crema_core.common.progress import StatusLine
from crema_core.plugins import registry
from crema_core.train.fit import fit
from tests.support.qwen_vl import built
from tests.support.video_language import QWEN_SIDE, save_video_model
from tests.train.file_modalities import file_modalities
from tests.train.wave_questions import CHOICES, write_wave_questions

LORA = {"rank": 2, "alpha": 4, "dropout": 0.0}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_video_model(tmp_path_factory.mktemp("video") / "model", "qwen2.5-vl")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Questions whose answer only the wave tells; one sample in three has no picture."""
    return write_wave_questions(tmp_path_factory.mktemp("data"), side=QWEN_SIDE, without_video=(0, 3))


@pytest.mark.parametrize(
    ("mode", "tuning", "recomputing"),
    [("joint", LORA, False), ("sequential", LORA, True), ("joint", "full", True)],
    ids=["joint", "sequential", "full"],
)
@pytest.mark.filterwarnings("ignore:A sample has wave and no video")
def test_training_early_exit_and_answering_work(
    folder: Path, data: Path, tmp_path: Path, mode: str, tuning: Any, recomputing: bool
) -> None:
    _, _, wave, _ = file_modalities()
    registry.register(wave)
    model = built(folder, wave, tuning=tuning)
    before, frozen = model.adapter_state_dict(), model.backbone.identity()
    eyes = {key: value.clone() for key, value in model.backbone.vision_model.state_dict().items()}
    status = StatusLine(io.StringIO(), enabled=False)
    settings: dict[str, Any] = {"epochs": 3, "batch_size": 3, "lr": 0.01, "seed": 0, "status": status}
    settings |= {"mode": mode, "early_exit": 1e-6, "gradient_checkpointing": recomputing}
    run = fit(model, data, out=tmp_path / "run", **settings)
    assert run.exited["wave"].startswith("'wave' exits after epoch 1: gradient norm ")
    after = model.adapter_state_dict()
    moved = {key.split(".")[0] for key in after if not torch.equal(after[key], before[key])}
    assert moved == {"fusion", "language"}
    if tuning != "full":
        model.backbone._identity = None  # computed anew
    assert model.backbone.identity() == frozen
    vision_encoder = model.backbone.vision_model.state_dict()
    assert all(torch.equal(vision_encoder[key], value) for key, value in eyes.items())
    model.save_pretrained(tmp_path / "saved")
    again = load(tmp_path / "saved")
    item = {"question": "what colour ?", "choices": CHOICES}
    sources = {"video": str(data.parent / "same.png"), "wave": str(data.parent / "wave1.npy")}
    assert again.answer_many([{**item, **sources}]) == model.answer_many([{**item, **sources}])
