"""Fixtures of this room."""

from tests.support.fixtures import model, published
from tests.support.world import clips, tiny_folder
from tests.train.conftest import new_model, one_thread, t5_folder

__all__ = ["clips", "model", "new_model", "one_thread", "published", "t5_folder", "tiny_folder"]
