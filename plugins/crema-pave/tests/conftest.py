"""Fixtures of this package's tests."""

from tests.support.world import clips, tiny_folder
from tests.train.conftest import distributed, new_model, one_thread

__all__ = ["clips", "new_model", "one_thread", "distributed", "tiny_folder"]
