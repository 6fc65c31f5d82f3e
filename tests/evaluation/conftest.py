"""Fixtures of this room."""

from tests.support.fixtures import model
from tests.train.conftest import new_model, one_thread, t5_folder

__all__ = ["model", "new_model", "one_thread", "t5_folder"]
