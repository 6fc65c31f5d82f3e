"""Small random checkpoints shared by the tests of several rooms."""

from __future__ import annotations

from pathlib import Path

import pytest

from crema_core.model.build import build
from crema_core.model.crema import CremaModel
from tests.support.backbones import save_random_blip2
from tests.support.senses import four_senses


@pytest.fixture(scope="session")
def t5_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_random_blip2(tmp_path_factory.mktemp("backbone") / "t5")


@pytest.fixture(scope="session")
def opt_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_random_blip2(tmp_path_factory.mktemp("backbone") / "opt", language="opt")


@pytest.fixture
def model(t5_folder: Path) -> CremaModel:
    return build(four_senses(), backbone=t5_folder)
