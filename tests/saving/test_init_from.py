"""Starting from an earlier training."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from crema_core.api.build import build
from crema_core.api.model import CremaModel
from crema_core.errors import CheckpointError
from crema_core.saving.bundle import init_from
from tests.support.modalities import frames_spec, wave_spec


def moved(model: CremaModel) -> CremaModel:
    with torch.no_grad():
        for parameter in model.trainable_parameters().values():
            parameter.add_(0.1)
    return model


@pytest.fixture
def saved(t5_folder: Path, tmp_path: Path) -> Path:
    moved(build([frames_spec("main")], backbone=t5_folder)).save_pretrained(tmp_path / "saved")
    return tmp_path / "saved"


def test_what_was_trained_is_taken_over_and_the_rest_stays(t5_folder: Path, saved: Path) -> None:
    def new() -> CremaModel:
        return build([frames_spec("main"), wave_spec()], backbone=t5_folder, tuning="full")

    model, untouched = new(), new().trainable_parameters()
    taken = init_from(model, saved)
    expected = moved(build([frames_spec("main")], backbone=t5_folder)).trainable_parameters()
    assert sorted(taken) == sorted(expected)
    for key, parameter in model.trainable_parameters().items():
        assert torch.equal(parameter, expected[key] if key in expected else untouched[key])


def test_other_sizes_and_modalities_are_refused_together(t5_folder: Path, saved: Path) -> None:
    model = build([{**_as_request(frames_spec("main")), "mmqa": {"num_queries": 3}}], backbone=t5_folder)
    before = model.adapter_state_dict()
    with pytest.raises(CheckpointError) as caught:
        init_from(model, saved)
    lines = str(caught.value).splitlines()
    assert lines[0] == f"This model cannot start from '{saved}', 1 things differ:"
    assert lines[1].startswith("  shape: modalities.main.mmqa.queries is (1, ")
    assert lines[-1] == (
        "What was trained must have its place. Build the model with the same modalities, sizes, encoders and fusion. "
        "Nothing was changed."
    )
    assert all(torch.equal(value, before[key]) for key, value in model.adapter_state_dict().items())


def test_another_backbone_is_refused(opt_folder: Path, saved: Path) -> None:
    with pytest.raises(CheckpointError) as caught:
        init_from(build([frames_spec("main")], backbone=opt_folder), saved)
    assert str(caught.value) == (
        f"'{saved}' was trained with another backbone than this model has. A training starts from one with the same. "
        "Build the model with the backbone of that one. Nothing was changed."
    )


def _as_request(spec: Any) -> dict[str, Any]:
    from crema_core.plugins import registry

    registry.register(spec)
    return {"name": spec.name}
