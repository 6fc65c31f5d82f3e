"""Fixtures of this room."""

from tests.support.world import clips, tiny_folder
from tests.train.conftest import one_thread, t5_folder

__all__ = ["clips", "one_thread", "t5_folder", "tiny_folder"]
