"""torch.compile of frozen layers: the same numbers, given back as they were, refused where torch cannot compile."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NoReturn

import pytest
import torch

from crema_core.api.build import build
from crema_core.api.model import CremaModel
from crema_core.errors import OptionsError
from crema_core.model.kernels import compiled, layers
from tests.support.modalities import frames_spec, wave_spec
from tests.support.steps import train_a_little


def made(folder: Path) -> CremaModel:
    return build([frames_spec("main"), wave_spec()], backbone=folder)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.torch.jit.:DeprecationWarning")  # torch's own compiler uses it
def test_training_through_compiled_layers_gives_the_same_numbers(t5_folder: Path) -> None:
    plain, fast = made(t5_folder), made(t5_folder)
    expected = train_a_little(plain, num_steps=3)
    with compiled([fast.backbone.vision_model, fast.backbone.language_model], enabled=True):
        assert all(layer._compiled_call_impl for layer in layers(fast.backbone.language_model))
        found = train_a_little(fast, num_steps=3)
    assert found == pytest.approx(expected, abs=1e-4)
    assert not any(layer._compiled_call_impl for layer in layers(fast.backbone.language_model))


def test_nothing_is_compiled_unless_asked(t5_folder: Path) -> None:
    model = made(t5_folder)
    with compiled([model.backbone.language_model, None], enabled=False):
        assert not any(layer._compiled_call_impl for layer in layers(model.backbone.language_model))


def test_a_machine_that_cannot_compile_is_told(t5_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: Any, **named: Any) -> NoReturn:
        raise RuntimeError("No working C++ compiler found.\nTried g++.")

    monkeypatch.setattr(torch, "compile", refuse)
    with pytest.raises(OptionsError) as caught, compiled([made(t5_folder).backbone.language_model], enabled=True):
        pass
    assert str(caught.value) == (
        "compile_frozen=True, and torch cannot compile on this machine: No working C++ compiler found. It needs a C++ "
        "compiler (g++) for CPUs, Triton for GPUs. Install one, or leave compile_frozen out."
    )
