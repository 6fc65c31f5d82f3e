"""`crema pretrain`: pairs in, a model with a trained encoder out."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import crema_core
from crema_core.cli.main import main
from crema_core.plugins import registry
from tests.train.file_modalities import trained_modalities
from tests.train.test_contrastive import write_pairs


def test_it_trains_saves_and_continues(tmp_path: Path, tiny_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pairs, out = write_pairs(tmp_path / "pairs"), tmp_path / "run"
    words = ["pretrain", str(pairs), "--modality", "gait", "--against", "points", "--backbone", str(tiny_folder)]
    words += ["--out", str(out), "--set", "epochs=2", "--set", "batch_size=8", "--set", "gait.dropout=0.1"]
    with registry.temporary_registrations():
        for own in trained_modalities():
            registry.register(own["name"] if isinstance(own, dict) else own)
        assert main(words) == 0
        assert "2 epochs, loss" in capsys.readouterr().out
        model = crema_core.load(out / "model")
        assert model.branch("gait").modality.options.dropout == 0.1
        assert main(words) == 1  # the run is there already
        assert "already holds a run" in capsys.readouterr().err
        assert main([*words, "--resume", "--json"]) == 0
        found = json.loads(capsys.readouterr().out)
    assert [line["epoch"] for line in found["metrics"]] == [0, 1]
    assert found["path"] == str(out)
