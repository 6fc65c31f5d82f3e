"""Weights that are not finite are neither saved nor loaded, and answer nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from crema_core.api.model import CremaModel
from crema_core.errors import CheckpointError, PrecisionError
from crema_core.evaluation.run import evaluate
from crema_core.saving import adapters, bundle
from crema_core.saving.bundle import init_from, read_model_config, read_state
from tests.support.fixtures import t5_folder
from tests.train.file_modalities import random_model, write_records

__all__ = ["t5_folder"]


@pytest.fixture
def spoilt(t5_folder: Path) -> CremaModel:
    """A model with one weight that is no number."""
    model = random_model(t5_folder, num=2)
    with torch.no_grad():
        next(iter(model.adapter_parameters("other").values())).view(-1)[0] = torch.nan
    return model


def test_it_is_not_saved(spoilt: CremaModel, tmp_path: Path) -> None:
    for save in (lambda: spoilt.save_pretrained(tmp_path / "m"), lambda: spoilt.save_adapter("other", tmp_path / "a")):
        with pytest.raises(CheckpointError, match=r"tensors hold NaN or infinity, first '.*' \(1 of [\d,]+ numbers\)"):
            save()
    assert list(tmp_path.iterdir()) == []


def test_it_is_not_loaded(spoilt: CremaModel, t5_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as earlier:  # what earlier versions wrote
        for module in (adapters, bundle):
            earlier.setattr(module, "require_finite", lambda *_, **__: None)
        spoilt.save_pretrained(tmp_path / "m")
        spoilt.save_adapter("other", tmp_path / "a")
    model = random_model(t5_folder, num=2)
    before = {key: own.clone() for key, own in model.adapter_state_dict().items()}
    bad = r"first '.*' \(1 of [\d,]+ numbers\)\. Weights must be finite\. .* Nothing was changed\."
    with pytest.raises(CheckpointError, match=bad):
        model.load_adapter(tmp_path / "a")
    with pytest.raises(CheckpointError, match=bad):
        init_from(model, tmp_path / "m")
    with pytest.raises(CheckpointError, match=bad):
        read_state(tmp_path / "m", read_model_config(tmp_path / "m"))
    assert all(torch.equal(before[key], own) for key, own in model.adapter_state_dict().items())


@pytest.mark.parametrize("choices", [None, ["red", "blue"]])
def test_it_answers_and_evaluates_nothing(spoilt: CremaModel, tmp_path: Path, choices: Any) -> None:
    record = write_records(tmp_path, 1, modalities="mo")[0]
    with torch.no_grad():
        for own in spoilt.adapter_parameters("main").values():
            own.fill_(torch.nan)
    with pytest.raises(PrecisionError, match=r"^The scores of the language model for .* are no numbers \(NaN\)"):
        spoilt.answer("what is the color ?", choices=choices, main=record.sources["main"])
    line: dict[str, Any] = {"id": "a", "question": "what ?", "answer": "red", "main": record.sources["main"]}
    with pytest.raises(PrecisionError, match="are no numbers"):
        evaluate(spoilt, [line | ({} if choices is None else {"choices": choices})])
