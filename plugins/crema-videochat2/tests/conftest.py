"""Fixtures of this package's tests."""

from __future__ import annotations

from pathlib import Path

import pytest

from crema_videochat2.model import VideoChat2
from tests.support.videochat2 import load_videochat2, save_videochat2
from tests.train.conftest import one_thread

__all__ = ["one_thread"]


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The golden toy model, written in the released format and converted."""
    return save_videochat2(tmp_path_factory.mktemp("videochat2"))


@pytest.fixture(scope="session")
def whole(folder: Path) -> VideoChat2:
    """The same, loaded as the released code has it."""
    return load_videochat2(folder)
