"""Which library quantises the language model, and what is said where there is none."""

from __future__ import annotations

from importlib.machinery import ModuleSpec
from pathlib import Path

import pytest
import torch

from crema_core.api.build import build
from crema_core.errors import BuildError, OptionsError
from crema_core.model import quantization
from crema_core.model.quantization import quantization_config
from tests.support.modalities import four_modalities


def installed(monkeypatch: pytest.MonkeyPatch, *names: str) -> None:
    monkeypatch.setattr(quantization, "find_spec", lambda name: ModuleSpec(name, None) if name in names else None)


def test_without_a_library_both_are_named(t5_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    installed(monkeypatch)
    with pytest.raises(BuildError) as error:
        build(four_modalities(), backbone=t5_folder, quantization="4bit")
    assert str(error.value) == (
        "quantization='4bit' needs a library that computes with quantised weights, and neither bitsandbytes nor "
        "torchao is installed. Install one: pip install bitsandbytes (NVIDIA and AMD GPUs) or pip install torchao."
    )


def test_an_unknown_kind_names_the_nearest() -> None:
    with pytest.raises(OptionsError) as error:
        quantization_config("4bits", dtype=torch.float32)
    assert str(error.value) == (
        "quantization='4bits' is not known. Accepted: 8bit, 4bit. Did you mean '4bit'? Use quantization='8bit', or "
        "leave it out."
    )


def test_with_bitsandbytes_only_the_language_model_is_quantised(monkeypatch: pytest.MonkeyPatch) -> None:
    installed(monkeypatch, "bitsandbytes")
    eight = quantization_config("8bit", dtype=torch.bfloat16)
    assert eight.load_in_8bit
    assert {"vision_model", "qformer", "language_projection"} <= set(eight.llm_int8_skip_modules)
    four = quantization_config("4bit", dtype=torch.bfloat16)
    assert (four.load_in_4bit, four.bnb_4bit_quant_type, four.bnb_4bit_compute_dtype) == (True, "nf4", torch.bfloat16)
