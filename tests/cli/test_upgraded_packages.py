"""`crema resume`, `answer` and `eval` after a foreign package was upgraded, renamed an option, or was removed."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from crema_core.api.build import build
from crema_core.cli.main import main
from crema_core.plugins import registry
from tests.support.fixtures import t5_folder
from tests.support.modalities import frames_spec
from tests.support.releases import Upgrade, upgrade

pytestmark = pytest.mark.slow

__all__ = ["t5_folder", "upgrade"]


@pytest.fixture
def data(tmp_path: Path) -> Path:
    lines = []
    for index in range(4):
        np.save(tmp_path / f"{index}.npy", np.random.default_rng(index).random((6, 9), dtype=np.float32))
        line = {"id": str(index), "question": "what color ?", "answer": ("red", "blue")[index % 2]}
        lines.append(json.dumps({**line, "lidar9": f"{index}.npy"}) + "\n")
    (tmp_path / "data.jsonl").write_text("".join(lines))
    return tmp_path / "data.jsonl"


@pytest.fixture
def run(upgrade: Upgrade, t5_folder: Path, data: Path, tmp_path: Path) -> Path:
    """A run begun, and finished, with crema-dummy-lidar 0.1.0."""
    upgrade("first")
    words = ["fit", str(data), "--modalities", "lidar9", "--backbone", str(t5_folder), "--out", str(tmp_path / "run")]
    assert main([*words, "--set", "epochs=1", "--set", "batch_size=2", "--set", "lidar9.sweeps=3"]) == 0
    return tmp_path / "run"


def test_a_run_keeps_fingerprints_and_is_continued_with_equal_features(
    upgrade: Upgrade, run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert json.loads((run / "config.json").read_text())["features"]["lidar9"]["feature_dim"] == 9
    upgrade("equal")
    assert main(["resume", str(run)]) == 0
    assert "warning" not in capsys.readouterr().err


def test_a_run_that_goes_on_with_other_features_says_so(
    upgrade: Upgrade, run: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    upgrade("encode")
    text = f"'{run}': crema-dummy-lidar 0.1.0 -> 0.2.0: features of 'lidar9' differ by "
    monkeypatch.setenv("CREMA_PLUGINS_STRICT", "1")
    assert main(["resume", str(run)]) == 1
    assert text in capsys.readouterr().err
    monkeypatch.delenv("CREMA_PLUGINS_STRICT")
    assert main(["resume", str(run)]) == 0
    assert f"crema: warning: {text}" in capsys.readouterr().err


def test_a_run_from_before_there_were_fingerprints_is_continued(
    upgrade: Upgrade, run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = json.loads((run / "config.json").read_text())
    del config["features"]
    (run / "config.json").write_text(json.dumps(config))
    upgrade("encode")
    assert main(["resume", str(run)]) == 0
    assert "warning" not in capsys.readouterr().err


def test_a_run_with_features_of_another_width_is_refused(
    upgrade: Upgrade, run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    upgrade("wide")
    assert main(["resume", str(run)]) == 1
    assert (
        f"'{run}': crema-dummy-lidar 0.1.0 -> 0.2.0: features of 'lidar9' are 8 wide, the saved adapter was trained on "
        "9." in capsys.readouterr().err
    )


def test_a_run_goes_on_with_migrated_options(upgrade: Upgrade, run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    upgrade("migrated")
    assert main(["resume", str(run)]) == 0
    said = capsys.readouterr().err
    assert "model.modalities.lidar9.options_version: None -> 2" in said
    assert "model.modalities.lidar9.version: 0.1.0 -> 0.2.0" in said


def test_a_run_with_an_option_that_is_gone_names_both_versions(
    upgrade: Upgrade, run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    upgrade("renamed")
    assert main(["resume", str(run)]) == 1
    said = capsys.readouterr().err
    assert (
        f"'{run}': crema-dummy-lidar 0.1.0 -> 0.2.0: the options of 'lidar9' that were saved are not those of the "
        "installed package.\nlidar9: unknown option 'sweeps'. Accepted: num_sweeps." in said
    )
    assert "pip install crema-dummy-lidar==0.1.0" in said


def test_a_run_whose_package_is_gone_names_it(upgrade: Upgrade, run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    upgrade(None)
    assert main(["resume", str(run)]) == 1
    said = capsys.readouterr().err
    assert "'lidar9' is not an installed modality." in said
    assert f"'{run}' was saved with: crema-dummy-lidar 0.1.0. Run: pip install crema-dummy-lidar" in said


def test_answer_and_eval_open_a_model_without_a_modality(
    upgrade: Upgrade, t5_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    upgrade("first")
    registry.register(frames_spec("main"))
    build(["main", "lidar9"], backbone=t5_folder).save_pretrained(tmp_path / "model")
    upgrade(None)
    (tmp_path / "data.jsonl").write_text(
        '{"id": "1", "question": "what ?", "answer": "red", "choices": ["red", "blue"]}\n'
    )
    assert main(["eval", str(tmp_path / "model"), str(tmp_path / "data.jsonl")]) == 1
    assert "or open it without: load(..., without=['lidar9'])" in capsys.readouterr().err
    words = ["eval", str(tmp_path / "model"), str(tmp_path / "data.jsonl"), "--without", "lidar9", "--json"]
    assert main(words) == 0
    printed = capsys.readouterr()
    assert json.loads(printed.out)["modalities"] == ["main"]
    assert (
        f"crema: warning: '{tmp_path / 'model'}' is opened without 'lidar9' (crema-dummy-lidar 0.1.0): " in printed.err
    )
