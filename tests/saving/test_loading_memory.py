"""Loading with too little memory: whichever library runs out, one error of ours comes out."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

import crema_core
from crema_core.api.model import CremaModel
from crema_core.errors import OutOfMemoryError
from tests.support.backbones import save_random_blip2
from tests.support.checkpoints import save_published
from tests.train.file_modalities import random_model

ERRORS = [MemoryError("Unable to allocate 3 TiB"), RuntimeError("DefaultCPUAllocator: can't allocate memory: 9 bytes")]
SAID = "do not fit into the memory ("


def failing(error: Exception) -> Callable[..., object]:
    def fail(*arguments: object, **named: object) -> object:
        raise error

    return fail


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_published(tmp_path_factory.mktemp("memory") / "backbone", "blip2-opt")


@pytest.mark.parametrize("error", ERRORS)
def test_a_backbone_that_does_not_fit_is_one_message(
    published: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    monkeypatch.setattr("transformers.modeling_utils.PreTrainedModel.from_pretrained", failing(error))
    with pytest.raises(OutOfMemoryError) as caught:
        crema_core.build(["video"], backbone=str(published))
    assert str(caught.value).startswith(f"The weights of '{published}' {SAID}")


@pytest.mark.parametrize("error", ERRORS)
def test_a_saved_model_that_does_not_fit_is_one_message_and_the_next_try_works(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    save_random_blip2(tmp_path / "t5")
    model: CremaModel = random_model(tmp_path / "t5", num=2)
    model.save_adapter("other", tmp_path / "adapter")
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with monkeypatch.context() as patched:
        patched.setattr("crema_core.common.tensors.load_file", failing(error))
        with pytest.raises(OutOfMemoryError, match=r"do not fit into the memory"):
            model.load_adapter(tmp_path / "adapter")
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    model.load_adapter(tmp_path / "adapter")
