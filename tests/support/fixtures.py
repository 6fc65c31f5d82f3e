"""Small random checkpoints shared by the tests of several rooms."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest

from crema_core.api.build import build
from crema_core.api.model import CremaModel
from tests.support.backbones import save_random_blip2
from tests.support.checkpoints import Language, Published, save_language, save_published
from tests.support.modalities import four_modalities
from tests.support.vision_encoders import save_three


@pytest.fixture(scope="session")
def t5_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_random_blip2(tmp_path_factory.mktemp("backbone") / "t5")


@pytest.fixture(scope="session")
def opt_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_random_blip2(tmp_path_factory.mktemp("backbone") / "opt", language="opt")


@pytest.fixture(scope="session")
def published(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Published], Path]:
    """Backbones in the format of published ones, written when first asked for."""
    place = tmp_path_factory.mktemp("published")
    return cache(lambda kind: save_published(place / kind, kind))


@pytest.fixture(scope="session")
def languages(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Language], Path]:
    """Language models in place of the backbone's own, written when first asked for; Mistral's and Qwen's chat."""
    place = tmp_path_factory.mktemp("languages")
    return cache(lambda kind: save_language(place / kind, kind, chat=kind == "mistral"))


@pytest.fixture(scope="session")
def encoders(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, str]]:
    """Three small random encoders, as `build(encoders=...)` takes them."""
    return save_three(tmp_path_factory.mktemp("encoders"))


@pytest.fixture
def model(t5_folder: Path) -> CremaModel:
    return build(four_modalities(), backbone=t5_folder)
