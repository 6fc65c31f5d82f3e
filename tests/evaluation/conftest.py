"""Fixtures of this room."""

from tests.support.fixtures import languages, model
from tests.train.conftest import new_model, one_thread, t5_folder

__all__ = ["languages", "model", "new_model", "one_thread", "t5_folder"]
