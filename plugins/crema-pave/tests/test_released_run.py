"""A released PAVE run as a whole: patch and LoRA arrive in a model, or nothing does."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from crema_core.api.build import build
from crema_core.api.load import load
from crema_core.api.model import CremaModel
from crema_core.cli.main import main
from crema_core.errors import CheckpointError
from crema_core.model.tuning import LanguageLora
from crema_core.plugins import registry
from crema_pave.patch import PavePatch
from crema_pave.released import export_released_patch
from crema_pave.released_run import load_released_run
from tests.support.modalities import wave_spec
from tests.support.vlm import save_vlm

PAVE = {"name": "pave", "embed_dim": 16, "num_heads": 2, "shared_value": True, "alignment": "count"}
LORA = {"rank": 2, "alpha": 4, "dropout": 0.0}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_vlm(tmp_path_factory.mktemp("video") / "model", "llava_onevision")


def built(folder: Path, *, tuning: Any = LORA, **options: Any) -> CremaModel:
    modalities = [{"name": "video", "num_frames": 2}, wave_spec()]
    return build(modalities, backbone=folder, fusion={**PAVE, **options}, tuning=tuning)


@pytest.fixture
def run(folder: Path, tmp_path: Path) -> tuple[Path, CremaModel]:
    """A folder as the released code leaves it, and the model that has its weights."""
    model, generator = built(folder), torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.trainable_parameters().values():
            parameter.copy_(torch.randn(parameter.shape, generator=generator))
    patch = model.fusion.blocks["wave"]
    assert isinstance(patch, PavePatch)
    torch.save(export_released_patch(patch), tmp_path / "non_lora_trainables.bin")
    lora = {
        f"base_model.model.{key[:-2]}.lora_{key[-1]}.weight".replace("model.language_model.", "model."): value.detach()
        for key, value in model.language_parameters().items()
    }
    torch.save(lora, tmp_path / "adapter_model.bin")
    (tmp_path / "adapter_config.json").write_text(json.dumps({"r": 2, "lora_alpha": 4}))
    return tmp_path, model


def test_patch_and_lora_arrive_and_dead_weights_are_named(folder: Path, run: tuple[Path, CremaModel]) -> None:
    place, wanted = run
    model = built(folder)
    left = load_released_run(model, "wave", place, num_heads=2)
    assert len(left) == 4
    assert all("v_linear" in key for key in left)
    state = wanted.adapter_state_dict()
    assert all(torch.equal(value, state[key]) for key, value in model.adapter_state_dict().items())


def test_another_arithmetic_is_refused_and_nothing_changes(folder: Path, run: tuple[Path, CremaModel]) -> None:
    model = built(folder, alignment="time", tuning={**LORA, "alpha": 8})
    before = model.adapter_state_dict()
    with pytest.raises(CheckpointError) as caught:
        load_released_run(model, "wave", run[0])
    assert str(caught.value) == (
        "The released run and this model compute differently:\n"
        "  heads: 4 in the run, 2 here\n"
        "  alignment: count in the run, time here\n"
        "  LoRA: (2, 4) in the run, (2, 8) here\n"
        "Accepted: a model with the run's settings. Build it with fusion={'name': 'pave', 'shared_value': True, "
        "'alignment': 'count'} and tuning={'rank': ..., 'alpha': ...}. Nothing was changed."
    )
    assert all(torch.equal(value, before[key]) for key, value in model.adapter_state_dict().items())


def test_a_modality_without_patch_and_a_lora_without_weights_are_refused(
    folder: Path, run: tuple[Path, CremaModel]
) -> None:
    model, place = built(folder), run[0]
    with pytest.raises(CheckpointError) as caught:
        load_released_run(model, "video", place)
    assert str(caught.value) == (
        "This model has no PAVE patch for 'video'. Accepted: a supporting modality of a model with fusion='pave'. Name "
        "it in build(modalities=[...]). Nothing was changed."
    )
    (place / "adapter_model.bin").unlink()
    with pytest.raises(CheckpointError) as caught:
        load_released_run(model, "wave", place, num_heads=2)
    assert str(caught.value) == (
        f"'{place}' has adapter_config.json and no weights of the LoRA. Accepted: adapter_model.safetensors or "
        "adapter_model.bin beside it. Copy the folder again. Nothing was changed."
    )


@pytest.mark.slow
def test_a_run_becomes_a_saved_model_on_the_command_line_and_a_patch_goes_back(
    folder: Path, run: tuple[Path, CremaModel], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    registry.register(wave_spec())
    place, wanted = run
    model, back = tmp_path / "model", tmp_path / "back.bin"
    words = ["convert-pave", str(place), "--modality", "wave", "--backbone", str(folder), "--num-heads", "2"]
    assert main([*words, "--set", "video.num_frames=2", "--out", str(model)]) == 0
    assert capsys.readouterr().out == f"patch of wave converted, 4 dead tensors left aside\nsaved model: {model}\n"
    state, loaded = wanted.adapter_state_dict(), load(model)
    assert loaded.backbone.tuning == LanguageLora(rank=2, alpha=4)
    assert all(torch.equal(value, state[key]) for key, value in loaded.adapter_state_dict().items())
    assert main(["convert-pave", str(model), "--modality", "wave", "--out", str(back)]) == 0
    released, again = (torch.load(file, weights_only=True) for file in (place / "non_lora_trainables.bin", back))
    assert released.keys() == again.keys()
    assert all(torch.equal(value, again[key]) for key, value in released.items())
    assert main(["convert-pave", str(model), "--modality", "video", "--out", str(back)]) == 1
    assert "has no PAVE patch for 'video'. Accepted: wave." in capsys.readouterr().err
