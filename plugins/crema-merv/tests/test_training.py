"""Training a model that mixes several encoders beside other modalities, as a user does it, and its evaluation."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

import crema_core
from crema_core.api.build import build
from crema_core.api.model import CremaModel
from crema_core.cli.main import main
from crema_core.data.data_file import read_data_file
from crema_core.evaluation.run import evaluate
from crema_core.train.fit import fit
from crema_core.train.trainer import TrainingInterrupted
from tests.train.test_fit import interrupt_at

pytestmark = pytest.mark.slow  # trains as a user does

MODALITIES = [
    {"name": "video", "num_frames": 2},
    {"name": "audio", "window_s": 0.64, "num_windows": 2},
    {"name": "depth", "num_frames": 1},
]
SETTINGS: dict[str, Any] = {"epochs": 2, "batch_size": 18, "lr": 1e-2, "early_exit": 1.5, "early_exit_metric": "lora"}


def mixed(tiny_folder: Path, encoders: list[dict[str, str]]) -> CremaModel:
    return build(MODALITIES, backbone=tiny_folder, encoders=encoders, fusion={"name": "merv", "token_grid": (2, 2)})


@pytest.mark.parametrize("mode", ["sequential", "joint"])
def test_modalities_are_trained_beside_the_encoders(
    mode: str, tiny_folder: Path, clips: Path, encoders: list[dict[str, str]], tmp_path: Path
) -> None:
    model = mixed(tiny_folder, encoders)
    before, frozen = model.adapter_state_dict(), model.frozen_fingerprint()
    records = read_data_file(clips, modalities=model.names)[:36]
    run = fit(model, records, out=tmp_path / "run", mode=mode, **SETTINGS)
    after = model.adapter_state_dict()
    assert model.frozen_fingerprint() == frozen
    moved = {key.split(".")[1] for key in after if not torch.equal(before[key], after[key])}
    assert {"video", "audio", "depth"} <= moved
    lines = [json.loads(line) for line in (run.path / "metrics.jsonl").read_text().splitlines()]
    epochs = [line for line in lines if line["kind"] == "epoch"]
    assert all(line["grad_norm/video"] > 0 for line in epochs)
    out = tmp_path / "answers.jsonl"
    result = evaluate(model, records[:9], out=out)
    shares = [json.loads(line)["encoder_weights"] for line in out.read_text().splitlines()]
    assert all(list(share) == ["siglip", "vivit", "timm"] for share in shares)
    assert all(sum(share.values()) == pytest.approx(1, abs=1e-5) for share in shares)
    assert list(result.extras["encoder_weights"]["all"]) == ["siglip", "vivit", "timm"]
    again = evaluate(model, records[:9], out=out, resume=True)
    assert again.extras == result.extras
    model.save_pretrained(tmp_path / "saved")
    loaded = crema_core.load(tmp_path / "saved")
    assert evaluate(loaded, records[:9]).extras == result.extras


def test_a_continued_run_gives_the_same_weights(
    tiny_folder: Path, clips: Path, encoders: list[dict[str, str]], tmp_path: Path
) -> None:
    records = read_data_file(clips, modalities=["video", "audio", "depth"])[:18]
    settings = {"batch_size": 9, "lr": 1e-2, "epochs": 2}
    whole = mixed(tiny_folder, encoders)
    fit(whole, records, out=tmp_path / "whole", **settings)

    part = mixed(tiny_folder, encoders)
    hooks = interrupt_at(3)
    with pytest.raises(TrainingInterrupted):
        fit(part, records, out=tmp_path / "part", hooks=hooks, **settings)
    again = mixed(tiny_folder, encoders)
    fit(again, records, out=tmp_path / "part", resume=True, **settings)
    for key, value in whole.adapter_state_dict().items():
        assert torch.equal(value, again.adapter_state_dict()[key])


@pytest.mark.slow
def test_fit_and_eval_know_the_encoders(
    tiny_folder: Path, clips: Path, encoders: list[dict[str, str]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = tmp_path / "config.yaml"
    config.write_text(
        json.dumps(
            {
                "data": str(clips),
                "eval_data": str(clips),
                "modalities": [MODALITIES[0]],
                "backbone": str(tiny_folder),
                "encoders": encoders,
                "fusion": {"name": "merv", "token_grid": [2, 2]},
                "settings": {"epochs": 1, "batch_size": 54},
            }
        )
    )
    assert main(["fit", str(config), "--out", str(tmp_path / "run")]) == 0
    assert "Contribution of each encoder" in (tmp_path / "run" / "report.html").read_text()
    capsys.readouterr()
    assert main(["eval", str(tmp_path / "run"), str(clips)]) == 0
    told = capsys.readouterr().out
    assert "mean encoder weights" in told
    assert "siglip" in told

    # The next stage starts from it, and trains the language model too.
    next_stage = ["--init-from", str(tmp_path / "run"), "--out", str(tmp_path / "next"), "--set", "lr=1e-12"]
    config.write_text(json.dumps(json.loads(config.read_text()) | {"tuning": "full"}))
    assert main(["fit", str(config), *next_stage]) == 0
    first, second = (crema_core.load(tmp_path / name / "model") for name in ("run", "next"))
    for key, value in first.adapter_parameters("video").items():
        torch.testing.assert_close(second.adapter_parameters("video")[key], value)
    assert second.language_parameters()
