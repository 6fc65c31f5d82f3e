"""Fixtures of this room."""

from tests.support.world import tiny_folder

__all__ = ["tiny_folder"]
