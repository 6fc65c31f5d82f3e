"""Fixtures of this room."""

from tests.train.conftest import new_model, one_thread, t5_folder

__all__ = ["new_model", "one_thread", "t5_folder"]
