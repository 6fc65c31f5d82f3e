"""`crema sweep` on a few clips."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import crema_analysis.sweep as module
from crema_core.cli.main import main
from crema_core.train.trainer import TrainingInterrupted
from tests.support.world import MODALITIES, QUICK


def words(clips: Path, tiny: Path, out: Path, *more: str) -> list[str]:
    common = ["--modalities", MODALITIES, "--backbone", str(tiny), "--out", str(out), "--max-new-tokens", "2"]
    return ["sweep", str(clips), "--test", str(clips), *common, *QUICK, "--set", "epochs=1", *more]


@pytest.mark.slow
def test_sweep_prints_a_table_writes_a_page_and_goes_on_at_once_when_all_is_there(
    clips: Path, tiny_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    asked = words(clips, tiny_folder, out, "--over", "early_exit", "--values", "none,1.8", "--seeds", "1")
    assert main(asked) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split()[:2] == ["early_exit", "behind"]
    assert [line.split()[0] for line in lines[1:3]] == ["none", "1.8"]
    assert lines[-1] == f"report: {out / 'sweep.html'}"
    page = (out / "sweep.html").read_text()
    assert page.count("data:image/png;base64,") == 2
    assert "Sweep over early_exit" in page
    assert main([*asked, "--json"]) == 0
    assert [json.loads(capsys.readouterr().out)] == json.loads((out / "sweep.json").read_text())


def test_a_mistake_is_found_before_any_training(
    clips: Path, tiny_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(words(clips, tiny_folder, tmp_path / "out", "--over", "rank")) == 1
    assert capsys.readouterr().err == (
        "crema: 'rank' is no choice to sweep. Choices: fusion, major, num_queries, lora_rank, connector, "
        "output_start, mode, early_exit. Did you mean 'lora_rank'? Name one of these.\n"
    )


def test_an_interruption_says_how_to_go_on(
    clips: Path, tiny_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*arguments: object, **options: object) -> None:
        raise TrainingInterrupted(tmp_path)

    monkeypatch.setattr(module, "train_cell", interrupt)
    assert main(words(clips, tiny_folder, tmp_path / "out", "--over", "mode")) == 130
    assert capsys.readouterr().err.endswith(
        "crema: interrupted; finished cells are kept. The same command continues.\n"
    )
