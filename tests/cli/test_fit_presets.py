"""`crema fit --preset` with whole runs."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from crema_core.cli.fit_config import FitConfig, read_config
from crema_core.cli.main import main
from tests.support.birds import register_songbirds
from tests.support.packages import needs


def test_a_preset_is_shown_as_a_configuration_file(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    register_songbirds()
    assert main(["fit", "--preset", "songbirds-vw", "--show", "--set", "lr=0.001", "--backbone", "crema-tiny"]) == 0
    text = capsys.readouterr().out
    lines = text.splitlines()
    assert lines[:3] == [
        "# preset songbirds-vw",
        "# crema data prepare songbirds --root DIR --split train --out songbirds-train.jsonl",
        "data: songbirds-train.jsonl",
    ]
    assert "  lr: 0.001" in lines  # replaced, so no source stands beside it
    assert "  weight_decay: 0.07  # a field guide" in lines
    config = FitConfig(**yaml.safe_load(text))
    assert (config.backbone, config.modalities) == ("crema-tiny", ("video", "wave"))
    (tmp_path / "config.yaml").write_text(text)
    assert read_config(str(tmp_path / "config.yaml"), {}, {}) == config


def test_options_and_files_replace_what_a_preset_says(tmp_path: Path) -> None:
    register_songbirds()
    file = tmp_path / "config.yaml"
    file.write_text("data: train.jsonl\npreset: songbirds-vw\nfusion: concat\n")
    config = read_config(str(file), {"backbone": "crema-tiny"}, {"epochs": 2})
    assert (config.backbone, config.fusion, config.settings) == ("crema-tiny", "concat", {"epochs": 2})
    assert config.modalities == ("video", "wave")
    assert "Choose a bird" in config.template["multiple_choice"]


@pytest.mark.slow
@needs("crema-benchmarks", "crema-geometry", "crema-world")
def test_a_run_of_the_paper_trains(
    clips: Path, tiny_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run"
    words = ["fit", str(clips), "--preset", "sqa3d-vd", "--backbone", str(tiny_folder), "--out", str(out), "--json"]
    few = ["epochs=1", "batch_size=27", "warmup_steps=1", "num_workers=0", "video.num_frames=2", "depth.num_frames=1"]
    assert main([*words, *(word for item in few for word in ("--set", item))]) == 0
    assert json.loads(capsys.readouterr().out)["num_steps"] == 2
    used = json.loads((out / "config.json").read_text())["settings"]
    assert (used["lr"], used["min_lr"], used["early_exit"], used["epochs"]) == (2e-4, 1e-5, 0.85, 1)
    model = json.loads((out / "model" / "crema.json").read_text())
    assert "3D Model information" in json.dumps(model)


def test_without_data_or_preset_the_usage_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["fit"]) == 2
    assert capsys.readouterr().err == ("crema fit: name a configuration or a data file. Try: crema fit --help\n")
