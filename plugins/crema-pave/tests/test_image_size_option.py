"""`--image-size`, from training to answering, on a vision-language model with PAVE."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from crema_core.cli.fit_config import read_config
from crema_core.cli.main import main
from tests.support.vlm import save_vlm
from tests.support.world import MODALITIES, QUICK

SIDE = 56


@pytest.fixture(scope="module")
def run(clips: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run."""
    place = tmp_path_factory.mktemp("qwen")
    folder = save_vlm(place / "backbone", "qwen2_5_vl")
    words = ["--modalities", MODALITIES, "--backbone", str(folder), "--fusion", "pave", "--image-size", str(SIDE)]
    assert main(["fit", str(clips), *words, "--out", str(place / "run"), *QUICK, "--set", "epochs=1"]) == 0
    return place / "run"


@pytest.mark.slow
def test_fit_records_the_image_size_and_saves_a_model_that_answers(
    run: Path, clips: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert json.loads((run / "fit.json").read_text())["image_size"] == SIDE
    assert json.loads((run / "model" / "crema.json").read_text())["backbone"]["image_size"] == SIDE
    video = str(clips.parent / "clips" / "000000.mp4")
    assert main(["answer", str(run), "which object is nearest?", "--video", video, "--choices", "left", "right"]) == 0
    assert capsys.readouterr().out.splitlines()[0] in ("left", "right")


def test_the_size_of_a_saved_model_cannot_be_changed(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["describe", str(run), "--image-size", "32"]) != 0
    assert (
        "--image-size 32 came with a saved model, in which it is as it was trained. Accepted beside it: --modalities. "
        "Leave --image-size out."
    ) in capsys.readouterr().err


def test_a_configuration_file_may_name_it(tmp_path: Path) -> None:
    (tmp_path / "fit.yaml").write_text("data: train.jsonl\nimage_size: 448\n")
    assert read_config(str(tmp_path / "fit.yaml"), {}, {}).image_size == 448
    assert read_config(str(tmp_path / "fit.yaml"), {"image_size": 224}, {}).image_size == 224
