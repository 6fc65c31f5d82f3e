"""Fixtures of this room."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from crema_core.api.model import CremaModel
from crema_core.train.distributed import Distributed
from tests.support.fixtures import published, t5_folder
from tests.support.numeric import double_precision
from tests.support.world import clips, tiny_folder
from tests.train.file_modalities import random_model

__all__ = [
    "clips",
    "new_double_model",
    "new_model",
    "one_thread",
    "published",
    "distributed",
    "t5_folder",
    "tiny_folder",
]

MakeModel = Callable[..., CremaModel]


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture
def new_model(t5_folder: Path) -> MakeModel:
    """Builds equal models: `new_model(dropout=0.1, num=2)`; every adapter and fusion weight is non-zero."""

    def make(**options: Any) -> CremaModel:
        return random_model(t5_folder, **options)

    return make


@pytest.fixture
def new_double_model(new_model: MakeModel) -> Iterator[MakeModel]:
    """Builds equal models in float64, in which all is computed: two orders of the same sum differ by 1e-16 of it."""
    with double_precision():
        yield lambda **options: new_model(**options).double()


@pytest.fixture
def distributed(tmp_path: Path) -> Distributed:
    return Distributed(precision="fp32", folder=tmp_path)
