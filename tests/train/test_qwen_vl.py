"""Runs of training on a Qwen-VL backbone: both orders, early exit, and the saved model."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from crema_core.io.bundle import load
from crema_core.plugins import registry
from crema_core.train.api import fit
from crema_core.train.progress import StatusLine
from tests.support.qwen_vl import built
from tests.support.video_language import QWEN_SIDE, save_video_model
from tests.train.file_senses import file_senses

LORA = {"rank": 2, "alpha": 4, "dropout": 0.0}
CHOICES = ["red", "blue"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_video_model(tmp_path_factory.mktemp("video") / "model", "qwen2.5-vl")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Questions whose answer only the wave tells; one sample in three has no picture."""
    place, generator = tmp_path_factory.mktemp("data"), torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 256, (QWEN_SIDE, QWEN_SIDE, 3), generator=generator, dtype=torch.uint8)
    Image.fromarray(pixels.numpy()).save(place / "same.png")
    lines = []
    for row in range(6):
        np.save(place / f"wave{row}.npy", np.full((5, 3, 10), 1.0 - 2 * (row % 2), dtype=np.float32))
        line = {"id": str(row), "question": "what colour ?", "choices": CHOICES, "answer": CHOICES[row % 2]}
        line |= {"wave": f"wave{row}.npy", **({"video": "same.png"} if row % 3 else {})}
        lines.append(line)
    (place / "data.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return place / "data.jsonl"


@pytest.mark.parametrize(
    ("mode", "tuning", "recomputing"),
    [("joint", LORA, False), ("sequential", LORA, True), ("joint", "full", True)],
    ids=["joint", "sequential", "full"],
)
@pytest.mark.filterwarnings("ignore:A sample has wave and no video")
def test_training_early_exit_and_answering_work(
    folder: Path, data: Path, tmp_path: Path, mode: str, tuning: Any, recomputing: bool
) -> None:
    _, _, wave, _ = file_senses()
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
    tower = model.backbone.vision_model.state_dict()
    assert all(torch.equal(tower[key], value) for key, value in eyes.items())
    model.save_pretrained(tmp_path / "saved")
    again = load(tmp_path / "saved")
    item = {"question": "what colour ?", "choices": CHOICES}
    sources = {"video": str(data.parent / "same.png"), "wave": str(data.parent / "wave1.npy")}
    assert again.answer_many([{**item, **sources}]) == model.answer_many([{**item, **sources}])
