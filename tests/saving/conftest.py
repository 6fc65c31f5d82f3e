"""Fixtures of this room."""

from tests.support.fixtures import model, opt_folder, t5_folder

__all__ = ["model", "opt_folder", "t5_folder"]
