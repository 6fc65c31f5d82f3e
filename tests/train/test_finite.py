"""Only finite states are kept; what is not is told with modality, samples and what to do, and the last one stays."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from crema_core.common.progress import StatusLine
from crema_core.errors import CheckpointError, TrainingError
from crema_core.plugins.hooks import Hooks, hookimpl
from crema_core.train.checkpoints import pointed, read_checkpoint
from crema_core.train.fit import fit
from crema_core.train.metrics import read_metrics
from crema_core.train.run import LAST, Run, read_config
from tests.train.conftest import MakeModel
from tests.train.file_modalities import write_data

SETTINGS: dict[str, Any] = {"epochs": 2, "batch_size": 2, "lr": 1e-2, "checkpoint_every": 1, "log_every": 1}


def train(new_model: MakeModel, data: Path, out: Path, spoil: Any = None, at: int = 2, **options: Any) -> Run:
    """Train; after update `at` the model is given to `spoil`."""
    model, hooks = new_model(num=2), Hooks(strict=True)

    class Spoiler:
        @staticmethod
        @hookimpl
        def crema_step_finished(step: int) -> None:
            if spoil is not None and step == at:
                spoil(model)

    hooks.add(Spoiler, name="test")
    settings = {} if options.get("resume") else SETTINGS
    return fit(model, data, out=out, hooks=hooks, status=StatusLine(enabled=False), **{**settings, **options})


def weight(model: Any) -> torch.Tensor:
    return next(iter(model.adapter_parameters("other").values())).detach()


def test_a_weight_that_is_not_finite_is_never_saved(new_model: MakeModel, tmp_path: Path) -> None:
    data, out = write_data(tmp_path / "data", 4, modalities="mo"), tmp_path / "run"
    with pytest.raises(TrainingError) as caught:
        train(new_model, data, out, lambda model: weight(model).view(-1)[:1].fill_(torch.inf))
    text = str(caught.value)
    assert text.startswith("The update of other on the samples s")
    assert "gave numbers that are NaN or infinite, first modalities.other." in text
    assert f"crema resume {out} --set lr=0.001" in text
    last = pointed(out, LAST)
    assert last is not None
    assert last.name == "epoch-000-step-000001"
    assert [path.name for path in (out / "checkpoints").iterdir()] == [last.name]
    assert all(bool(own.isfinite().all()) for own in read_checkpoint(last).adapters.values())


def test_a_gradient_that_is_not_finite_moves_nothing(new_model: MakeModel, tmp_path: Path) -> None:
    data, out = write_data(tmp_path / "data", 4, modalities="mo"), tmp_path / "run"
    before: dict[str, torch.Tensor] = {}
    models: list[Any] = []

    def spoil(model: Any) -> None:
        models.append(model)
        before.update({key: own.clone() for key, own in model.adapter_state_dict().items()})
        parameter = next(iter(model.adapter_parameters("main").values()))
        parameter.register_hook(lambda gradient: torch.full_like(gradient, torch.nan))

    with pytest.raises(TrainingError, match=r"^The update of main on the samples .* the gradient of modal"):
        train(new_model, data, out, spoil)
    after = models[0].adapter_state_dict()
    assert all(torch.equal(before[key], after[key]) for key in before)


@pytest.mark.slow
def test_a_run_continues_with_another_rate_that_is_recorded(
    new_model: MakeModel, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data, out = write_data(tmp_path / "data", 4, modalities="mo"), tmp_path / "run"
    with pytest.raises(TrainingError, match="NaN or infinite"):
        train(new_model, data, out, lambda model: weight(model).fill_(torch.nan))
    with pytest.raises(CheckpointError, match=r"modality_dropout: 0\.0 -> 0\.5"):
        train(new_model, data, out, resume=True, lr=1e-3, modality_dropout=0.5)
    assert read_config(out)["settings"]["lr"] == 1e-2
    run = fit(new_model(num=2), data, out=out, resume=True, lr=1e-3, max_grad_norm=1.0)
    assert run.num_steps == 4
    assert "lr: 0.01 -> 0.001, from update 2 on" in capsys.readouterr().err.splitlines()
    config = read_config(out)
    assert config["settings"]["lr"] == 1e-3
    assert config["changes"] == [
        {"step": 1, "setting": "lr", "was": 1e-2, "now": 1e-3},
        {"step": 1, "setting": "max_grad_norm", "was": None, "now": 1.0},
    ]
    lines = [line for line in read_metrics(out / "metrics.jsonl") if line["kind"] == "setting"]
    assert [(line["step"], line["setting"], line["was"], line["now"]) for line in lines] == [
        (1, "lr", "0.01", "0.001"),
        (1, "max_grad_norm", "None", "1.0"),
    ]


def test_a_preset_changes_no_rate_of_a_continued_run(new_model: MakeModel, tmp_path: Path) -> None:
    data, out = write_data(tmp_path / "data", 4, modalities="mo"), tmp_path / "run"
    with pytest.raises(TrainingError, match="NaN or infinite"):
        train(new_model, data, out, lambda model: weight(model).fill_(torch.nan))
    before = (out / "config.json").read_text()
    with pytest.raises(CheckpointError, match=r"lr: 0\.01 -> 1e-05"):
        fit(new_model(num=2), data, out=out, resume=True, preset="pretrain")
    assert (out / "config.json").read_text() == before
    assert json.loads(before)["format"] == 1
