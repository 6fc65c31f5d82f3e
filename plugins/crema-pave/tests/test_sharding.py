"""The language model of a video language model, shared out over processes, gives the numbers of a whole one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from crema_core.api.build import build
from crema_core.common.progress import StatusLine
from crema_core.plugins import registry
from crema_core.plugins.hooks import Hooks
from crema_core.train.distributed import leave_processes
from crema_core.train.fit import fit
from tests.support.launch import together
from tests.support.numeric import assert_same_steps
from tests.support.vlm import save_vlm
from tests.train.file_modalities import file_modalities
from tests.train.wave_questions import write_wave_questions

PAVE = {"name": "pave", "embed_dim": 16, "num_heads": 2}
RATE = 1e-3
LORA = {"rank": 2, "alpha": 4, "dropout": 0.0}


def train_video(backbone: Path, data: Path, out: Path, **settings: Any) -> dict[str, np.ndarray]:
    _, _, wave, _ = file_modalities()
    registry.register(wave)
    model = build([{"name": "video", "num_frames": 4}, wave], backbone=backbone, fusion=PAVE, tuning=LORA)
    settings |= {"epochs": 2, "batch_size": 2, "lr": RATE, "mode": "joint", "seed": 0}
    fit(model, data, out=out, hooks=Hooks(strict=True), status=StatusLine(enabled=False), **settings)
    leave_processes()
    return {key: value.numpy() for key, value in model.adapter_state_dict().items()}


@pytest.mark.slow
@pytest.mark.parametrize("family", ["llava_onevision", "qwen2_5_vl"])
def test_training_below_a_video_language_models_lora(family: str, tmp_path: Path) -> None:
    folder = save_vlm(tmp_path / "backbone", family)
    data = write_wave_questions(tmp_path / "data", side=40)
    alone = train_video(folder, data, tmp_path / "one")
    first, second = together(train_video, folder, data, tmp_path / "two", shard_language_model=True)
    weights = [{key: torch.from_numpy(value) for key, value in run.items()} for run in (alone, first)]
    assert_same_steps(*weights, rate=RATE)
    assert all(np.array_equal(first[key], second[key]) for key in first)
