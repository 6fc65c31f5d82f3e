"""Training of PAVE's patches, with LoRA on the language model and behind a frozen first patch."""

from __future__ import annotations

import io
import json
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from crema_core.api.build import build
from crema_core.api.model import CremaModel
from crema_core.common.progress import StatusLine
from crema_core.plugins.hooks import Hooks, hookimpl
from crema_core.plugins.spec import ModalitySpec
from crema_core.train.fit import fit
from crema_core.train.trainer import TrainingInterrupted
from tests.support.vlm import save_vlm
from tests.train.file_modalities import file_modalities
from tests.train.wave_questions import CHOICES, write_wave_questions

PAVE = {"name": "pave", "embed_dim": 16, "num_heads": 2}
LORA = {"rank": 2, "alpha": 4, "dropout": 0.0}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_vlm(tmp_path_factory.mktemp("video") / "model", "llava_onevision")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Questions whose answer only the wave tells; four of six samples have points too."""
    return write_wave_questions(tmp_path_factory.mktemp("data"), side=40, points=(1, 2, 4, 5))


def sides() -> tuple[ModalitySpec, ModalitySpec]:
    _, _, wave, points = file_modalities()
    return wave, points


def train(model: CremaModel, data: Path, out: Path, **settings: Any) -> None:
    fit(model, data, out=out, status=StatusLine(io.StringIO(), enabled=False), seed=0, **settings)


def scores(model: CremaModel, data: Path, *names: str) -> list[list[float]]:
    lines = [json.loads(line) for line in data.read_text().splitlines()]
    items = [
        {"question": line["question"], "choices": CHOICES, **{name: data.parent / line[name] for name in names}}
        for line in lines
        if all(name in line for name in names)
    ]
    return [list(answer.scores.values()) for answer in model.answer_many(items)]


@pytest.mark.parametrize("mode", ["joint", "sequential"])
def test_training_moves_patches_and_lora_and_nothing_frozen(
    folder: Path, data: Path, tmp_path: Path, mode: str
) -> None:
    model = build([{"name": "video", "num_frames": 2}, *sides()], backbone=folder, fusion=PAVE, tuning=LORA)
    before, frozen = model.adapter_state_dict(), model.backbone.identity()
    train(model, data, tmp_path / "run", mode=mode, epochs=2, batch_size=3, lr=0.01, log_every=1)
    lines = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert all(line["grad_norm/wave"] > 0 for line in lines if "grad_norm/wave" in line)
    assert any("grad_norm/wave" in line for line in lines)  # what early exit goes by: the modality's patch
    after = model.adapter_state_dict()
    moved = {key for key in after if not torch.equal(after[key], before[key])}
    assert {".".join(key.split(".")[:3]) for key in moved if key.startswith("fusion.")} == {
        "fusion.blocks.wave",
        "fusion.blocks.points",
    }
    assert {key for key in after if key.startswith("language.")} <= moved
    model.backbone._identity = None  # computed anew
    assert model.backbone.identity() == frozen


@pytest.mark.slow
def test_a_second_modality_is_trained_on_a_frozen_first_patch(folder: Path, data: Path, tmp_path: Path) -> None:
    wave, points = sides()
    model = build([{"name": "video", "num_frames": 2}, points], backbone=folder, fusion=PAVE)
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for parameter in model.trainable_parameters().values():
            parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.3)
    model.add_modality(wave)
    before, plain = model.adapter_state_dict(), scores(model, data, "video", "points")
    train(model, data, tmp_path / "run", mode="joint", epochs=25, batch_size=6, lr=0.15, modalities=["wave"])
    after = model.adapter_state_dict()
    moved = {key for key in after if not torch.equal(after[key], before[key])}
    assert moved
    assert all(key.startswith("fusion.blocks.wave.") for key in moved)
    assert scores(model, data, "video", "points") == plain
    best = [row.index(max(row)) for row in scores(model, data, "video", "wave")]
    assert best == [0, 1, 0, 1, 0, 1]


@pytest.mark.slow
def test_a_run_that_stopped_goes_on_to_the_same_numbers(folder: Path, data: Path, tmp_path: Path) -> None:
    settings = {"mode": "joint", "epochs": 2, "batch_size": 3, "lr": 0.01, "hooks": Hooks(strict=True)}
    fresh = {"backbone": folder, "fusion": PAVE, "tuning": LORA}
    modalities = [{"name": "video", "num_frames": 2}, *sides()]
    whole, part, rest = (build(modalities, **fresh) for _ in range(3))
    train(whole, data, tmp_path / "whole", **settings)
    with pytest.raises(TrainingInterrupted):
        train(part, data, tmp_path / "run", **settings | {"hooks": _stopping(3)})
    train(rest, data, tmp_path / "run", resume=True, **settings)
    wanted = whole.adapter_state_dict()
    assert all(torch.equal(value, wanted[key]) for key, value in rest.adapter_state_dict().items())


def _stopping(at: int) -> Hooks:
    def crema_step_finished(step: int) -> None:
        if step == at:
            os.kill(os.getpid(), signal.SIGINT)

    hooks = Hooks(strict=True)
    hooks.add(type("Plugin", (), _hook(crema_step_finished)), name="test")
    return hooks


def _hook(function: Callable[[int], None]) -> dict[str, Any]:
    return {function.__name__: staticmethod(hookimpl(function))}
