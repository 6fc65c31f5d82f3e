"""`crema convert`, there and back, on the command line."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from crema_benchmarks.released import export_released
from crema_core.api.build import build
from crema_core.api.load import load
from crema_core.cli.main import main


@pytest.fixture(scope="module")
def released(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint as the released code writes it, for two modalities of crema-tiny."""
    model = build(["video", "depth"], mmqa={"lora_rank": 4})
    with torch.no_grad():
        for parameter in model.trainable_parameters().values():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    file = tmp_path_factory.mktemp("released") / "crema.pth"
    dead = {"rgb_gradsel_embed": torch.zeros(1, 3), "visual_encoder.cls_token": torch.zeros(1, 1, 4)}
    torch.save({"model": export_released(model) | dead, "epoch": 1}, file)
    return file


@pytest.mark.slow
def test_a_checkpoint_becomes_a_model_and_a_model_a_checkpoint(
    released: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    place = tmp_path / "model"
    arguments = ["--modalities", "video,depth", "--lora-rank", "4", "--out", str(place)]
    assert main(["convert", str(released), *arguments]) == 0
    assert "video, depth: 44 tensors converted, 2 frozen or dead left aside" in capsys.readouterr().out
    assert load(place).config["fusion"] == {"name": "self_gated", "layout": "released"}
    assert main(["convert", str(place), "--out", str(tmp_path / "back.safetensors")]) == 0
    back, first = load_file(tmp_path / "back.safetensors"), torch.load(released, weights_only=True)["model"]
    assert back.keys() == first.keys() - {"rgb_gradsel_embed", "visual_encoder.cls_token"}
    assert all(torch.equal(value, first[key]) for key, value in back.items())


def test_the_order_of_the_modalities_must_be_given(
    released: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["convert", str(released), "--out", str(tmp_path / "model")]) == 1
    assert (
        "A released checkpoint does not say in which order its modalities were fused. Name them in that order. Write "
        "--modalities FIRST,SECOND."
    ) in capsys.readouterr().err
    assert not (tmp_path / "model").exists()


def test_a_wrong_rank_is_refused_and_nothing_is_written(
    released: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["--modalities", "video,depth", "--lora-rank", "8", "--out", str(tmp_path / "model")]
    assert main(["convert", str(released), *arguments]) == 1
    assert "is (4, 96), the model's is (8, 96)" in capsys.readouterr().err
    assert not (tmp_path / "model").exists()
